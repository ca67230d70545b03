//! `countersign mail …`: mails that could not be sent.

use std::error::Error;

use clap::{Args, Subcommand};
use countersign_core::model::{AuditRecord, OutboxMail};
use countersign_core::store::{DeadLetterPosition, OutboxStore};
use countersign_http::{SystemClock, rfc3339};
use countersign_jwt::Clock as _;
use serde_json::json;
use uuid::Uuid;

use super::table::{or_dash, say_table, shown};
use super::{StoreFlags, with_settings};
use crate::operator::Actor;
use crate::store::Database;
use crate::telemetry::say;

/// The dead letters that are read at once.
const PAGE: usize = 500;

#[derive(Args, Debug)]
pub(crate) struct MailCommand {
    #[command(subcommand)]
    command: MailSubcommand,
}

#[derive(Debug, Subcommand)]
enum MailSubcommand {
    /// List the mails that could not be sent within a day, or that the mail server refused for good, with its reason.
    List {
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Send such a mail again. A running server does so within seconds.
    Retry {
        /// The mail's id, as `mail list` shows it
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<Uuid>,
        /// Send all of them again
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
}

/// `countersign mail …`
pub(crate) fn run(command: MailCommand) -> Result<(), Box<dyn Error>> {
    match command.command {
        MailSubcommand::List { json, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            list(&dead_letters(&**stores.outbox()).await?, json);
            Ok(())
        }),
        MailSubcommand::Retry { id, all: _, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            let outbox = stores.outbox();
            let ids = match id {
                Some(id) => vec![id],
                None => dead_letters(&**outbox).await?.iter().map(|mail| mail.id).collect(),
            };
            let mut retried = 0_usize;
            for id in &ids {
                retried += usize::from(outbox.retry_mail(*id, SystemClock::new().now()).await?);
            }
            if let (Some(id), 0) = (id, retried) {
                return Err(format!(
                    "{id} is no mail that could not be sent; countersign mail list shows them"
                )
                .into());
            }
            if retried > 0
                && let Some(record) = Actor::command_line().record("admin_mail_retried")
            {
                let record = AuditRecord { detail: Some(format!("{retried} mails")), ..record };
                stores.audit().insert_audit(&[record]).await?;
            }
            say(&match retried {
                1 => "1 mail waits to be sent again".to_owned(),
                number => format!("{number} mails wait to be sent again"),
            });
            Ok(())
        }),
    }
}

async fn dead_letters(outbox: &dyn OutboxStore) -> Result<Vec<OutboxMail>, Box<dyn Error>> {
    let mut all = Vec::new();
    loop {
        let after = all.last().and_then(DeadLetterPosition::of);
        let page = outbox.dead_letters(after, PAGE).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn list(mails: &[OutboxMail], json: bool) {
    let since = |mail: &OutboxMail| DeadLetterPosition::of(mail).map(|position| rfc3339(position.since));
    if json {
        let mails: Vec<_> = mails
            .iter()
            .map(|mail| {
                json!({
                    "id": mail.id.to_string(), "to": mail.to.as_str(), "kind": mail.kind,
                    "user_id": mail.user_id.as_ref().map(ToString::to_string),
                    "created_at": rfc3339(mail.created_at), "dead_since": since(mail),
                    "last_error": mail.last_error,
                })
            })
            .collect();
        return say(&json!({ "mails": mails }).to_string());
    }
    let mut rows = vec![["ID", "TO", "KIND", "SINCE", "REASON"].map(str::to_owned)];
    for mail in mails {
        rows.push([
            mail.id.to_string(),
            shown(mail.to.as_str()),
            shown(&mail.kind),
            or_dash(since(mail)),
            or_dash(mail.last_error.as_deref().map(shown)),
        ]);
    }
    say_table(&rows);
}
