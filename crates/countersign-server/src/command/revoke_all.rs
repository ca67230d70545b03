//! `countersign revoke-all`: from now on every token that was ever issued is refused.

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use countersign_core::flow::{KeyLifeError, Sessions};
use countersign_core::model::{KeyPurpose, KeyState, StoredKey};
use countersign_core::store::Stores;
use countersign_jwt::KeyId;

use super::{StoreFlags, auth, with_settings};
use crate::telemetry::say;

/// How often the keys are read again, because others may have made new ones meanwhile.
const ROUNDS: usize = 4;

#[derive(Args, Debug)]
pub(crate) struct RevokeAll {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// `countersign revoke-all`
pub(crate) fn run(command: RevokeAll) -> Result<(), Box<dyn Error>> {
    let RevokeAll { yes, store } = command;
    with_settings(store, async |settings| {
        if !settings.profile.is_native() {
            return Err("under a profile the tokens are signed with the application's own key, which is not in the store: \
                 change JWT_SECRET_KEY (or JWT_PRIVATE_KEY and JWT_PUBLIC_KEY) here and in the Flask application, and \
                 restart both; then every token is refused"
                .into());
        }
        if !yes && !is_confirmed()? {
            return Err("nothing was revoked".into());
        }
        let (auth, stores) = auth(settings).await?;
        let (removed, made) = replace_all_keys(auth.sessions(), &stores).await?;
        for id in &removed {
            say(&format!("the key {} is removed", id.as_str().escape_debug()));
        }
        for id in &made {
            say(&format!("the key {id} signs now"));
        }
        say(&format!(
            "every token issued until now is refused by all servers within {} s; everybody signs in again",
            settings.policy.revocation_bound.as_secs_f64()
        ));
        Ok(())
    })
}

/// Removes every key that is left, whatever its state. Even a retiring key, or one that would sign soon, may have
/// signed tokens that the store does not know of, if it was restored from a backup. Returns which keys were removed,
/// and which sign now.
pub(super) async fn replace_all_keys(
    sessions: &Sessions,
    stores: &Stores,
) -> Result<(Vec<KeyId>, Vec<KeyId>), Box<dyn Error>> {
    let (mut removed, mut made) = (Vec::new(), HashSet::new());
    for _ in 0..ROUNDS {
        let keys = stores.keys().keys().await?;
        let now = sessions.clock().now();
        let is_active = |key: &StoredKey| {
            let overlap = sessions.policy().key_overlap(key.purpose);
            countersign_core::model::key_state(key, &keys, now, overlap) == KeyState::Active
        };
        let is_left = |key: &&StoredKey| key.removed_at.is_none() && !made.contains(&key.key_id);
        let mut left: Vec<_> = keys.iter().filter(is_left).collect();
        // The keys that sign come last, because the removal of each makes its successor.
        left.sort_by_key(|key| (is_active(key), key.purpose == KeyPurpose::Access));
        if left.is_empty() {
            break;
        }
        for key in left {
            match sessions.keys().remove(&key.key_id).await {
                Ok(successor) => {
                    removed.push(key.key_id.clone());
                    made.extend(successor);
                }
                // Another process has removed the key.
                Err(KeyLifeError::Unknown) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let mut made: Vec<_> = made.into_iter().filter(|id| !removed.contains(id)).collect();
    made.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    Ok((removed, made))
}

/// Asks for confirmation at the terminal; without a terminal it is an error.
fn is_confirmed() -> Result<bool, Box<dyn Error>> {
    if !io::stdin().is_terminal() {
        return Err(
            "this signs everybody out; there is no terminal to ask at, so say --yes if that is meant".into(),
        );
    }
    let mut terminal = io::stderr().lock();
    write!(terminal, "This signs everybody out, on every server of this store. Type yes to go on: ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
