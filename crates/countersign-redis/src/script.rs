//! Lua scripts. Every write is one, so that it reads and changes everything in one atomic step.

use std::sync::LazyLock;

use redis::Cmd;

/// A script, which the server knows by the hash of its text.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

/// A script with its keys and arguments.
#[derive(Debug)]
pub(crate) struct Call {
    script: &'static Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Calls the script with these keys, which are all that it touches.
    pub(crate) fn on(&'static self, keys: impl IntoIterator<Item = String>) -> Call {
        Call { script: self, keys: keys.into_iter().collect(), arguments: Vec::new() }
    }
}

impl Call {
    /// Adds a key.
    pub(crate) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a number as an argument.
    pub(crate) fn number(self, number: impl ToString) -> Self {
        self.arg(number.to_string())
    }

    /// The command that names the script by its hash.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// The command that carries the script's text, for a server that does not know it yet and knows it afterwards.
    pub(crate) fn in_full(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        for argument in &self.arguments {
            command.arg(argument.as_slice());
        }
        command
    }
}

macro_rules! scripts {
    ($($name:ident = $($part:literal)+;)+) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!($(include_str!(concat!("lua/", $part, ".lua")), "\n"),+))
        });)+
    };
}

scripts! {
    OPEN = "open";
    CONVERT_SESSIONS = "row" "convert_sessions";
    CONVERT_ENTRIES = "convert_entries";
    CONVERTED = "converted";
    INSERT_SESSION = "insert_session";
    SESSION = "session";
    ADVANCE = "row" "allows" "advance";
    HEAL = "row" "allows" "heal";
    ACKNOWLEDGE = "row" "acknowledge";
    END_SESSION = "row" "put" "end_session";
    MARK_REST = "row" "mark_ended" "mark_rest";
    LIVE_SESSIONS = "live_sessions";
    PURGE_SESSIONS = "purge_sessions";
    RAISE_EPOCH = "row" "put" "mark_ended" "raise_epoch";
    REVOKE_TOKENS = "put" "revoke_tokens";
    INSERT_ENTRY = "put" "insert_entry";
    PURGE_ENTRIES = "row" "purge_entries";
    CONVERT_USERS = "convert_users";
    INSERT_USER = "insert_user";
    REPLACE_USER = "replace_user";
    DELETE_USER = "forget" "delete_user";
    FIND_USERS = "find_users";
    NEXT_USER_NUMBER = "next_user_number";
    REPLACE_PASSWORD_HASH = "replace_password_hash";
    SET_DISABLED = "set_disabled";
    PUT_SECRET = "put_secret";
    SWAP_SECRET = "swap_secret";
    REMOVE_SECRET = "remove_secret";
    REMEMBER_DEVICE = "remember_device";
    FORGET_DEVICES = "forget" "forget_devices";
    PURGE_FIELDS = "purge_fields";
    INSERT_ADMIN_KEY = "insert_admin_key";
    REMOVE_ADMIN_KEY = "remove_admin_key";
    INSERT_AUDIT = "insert_audit";
    AUDIT = "audit";
    PURGE_AUDIT = "purge_audit";
    ENQUEUE_MAIL = "mail" "enqueue_mail";
    CLAIM_MAIL = "mail" "claim_mail";
    REMOVE_MAIL = "mail" "remove_mail";
    FAIL_MAIL = "mail" "fail_mail";
    RETRY_MAIL = "mail" "retry_mail";
    MAILS = "mails";
    PURGE_MAIL = "purge_mail";
    SWAP_ATTEMPTS = "swap_attempts";
    PURGE_ATTEMPTS = "purge_attempts";
    STORE_ID = "store_id";
    INSERT_KEY = "insert_key";
    RESEAL_KEY = "reseal_key";
    REMOVE_KEY = "remove_key";
    REPLACE_SETTINGS = "replace_settings";
}
