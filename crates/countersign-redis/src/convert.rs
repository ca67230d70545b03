//! Converting the previous layout to this one. Every step may be done twice, and by several programs at once. Programs
//! that still work with the previous layout must be stopped.

use tokio::time::Instant;

use crate::answer;
use crate::failure::Failure;
use crate::layout::{Names, line_of_member, session_of_member};
use crate::link::Link;
use crate::script::{CONVERT_ENTRIES, CONVERT_SESSIONS, CONVERTED};

/// The layout that is converted. It kept the epochs among a user's other entries, and had no lists of sessions without
/// a mark and of revoked tokens.
pub(crate) const BEFORE: &str = "1";

/// The approximate number of members converted in one step, about a millisecond of work.
const STEP: usize = 200;

/// Converts everything, then records the layout. `by` gives the deadline of each step.
pub(crate) async fn run(
    link: &Link,
    names: &Names,
    layout: &str,
    by: impl Fn() -> Instant,
) -> Result<(), Failure> {
    let mut cursor = "0".to_owned();
    loop {
        let members;
        (cursor, members) = scan(link, &names.sessions_by_until(), &cursor, by()).await?;
        let mut call = CONVERT_SESSIONS.on([]);
        for member in &members {
            let (user_id, id) = session_of_member(member)?;
            call = call.key(names.sessions(user_id)).key(names.live(user_id)).arg(id);
        }
        link.run(&call, by()).await?;
        if cursor == "0" {
            break;
        }
    }
    loop {
        let members;
        (cursor, members) = scan(link, &names.log(), &cursor, by()).await?;
        let mut call = CONVERT_ENTRIES.on([]);
        for member in &members {
            let (user_id, field) = line_of_member(member)?;
            call = call.key(names.user_log(user_id)).key(names.epochs(user_id)).key(names.tokens(user_id));
            call = call.arg(field);
        }
        link.run(&call, by()).await?;
        if cursor == "0" {
            break;
        }
    }
    link.run(&CONVERTED.on([names.meta()]).arg(BEFORE).arg(layout), by()).await?;
    Ok(())
}

/// Some members of a sorted set, and the cursor to continue with. Members that stay in the set throughout are returned
/// at least once.
async fn scan(link: &Link, key: &str, cursor: &str, by: Instant) -> Result<(String, Vec<String>), Failure> {
    let mut command = redis::cmd("ZSCAN");
    command.arg(key).arg(cursor).arg("COUNT").arg(STEP);
    let [cursor, found] = answer::exactly(link.query(&command, by).await?)?;
    let members = answer::list(found)?.into_iter().step_by(2).map(answer::text).collect::<Result<_, _>>()?;
    Ok((answer::text(cursor)?, members))
}
