-- Accounts for their whole life.

-- An account may have a username alone. The names of its roles are separated by spaces. `revision` is the number of its
-- changes. SQLite cannot allow null in a column that is there, so the table is made anew, and with it the table that
-- refers to it.
ALTER TABLE account RENAME TO old_account;
ALTER TABLE account_name RENAME TO old_account_name;

CREATE TABLE account (
    id                TEXT    NOT NULL PRIMARY KEY,
    email             TEXT,
    email_verified_at INTEGER,
    username          TEXT,
    password_hash     TEXT,
    roles             TEXT    NOT NULL DEFAULT '',
    language          TEXT,
    created_at        INTEGER NOT NULL,
    disabled_at       INTEGER,
    deleted_at        INTEGER,
    revision          INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

INSERT INTO account (id, email, username, password_hash, created_at, disabled_at)
SELECT id, email, username, password_hash, created_at, disabled_at FROM old_account;

-- A claimed name: `email` or `username`, by the key that all its spellings share.
CREATE TABLE account_name (
    kind    TEXT NOT NULL CHECK (kind IN ('email', 'username')),
    key     TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES account (id),
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

INSERT INTO account_name (kind, key, user_id) SELECT kind, key, user_id FROM old_account_name;

DROP TABLE old_account_name;
DROP TABLE old_account;

CREATE INDEX account_name_user_id ON account_name (user_id);
-- Users are listed by the time of their registration.
CREATE INDEX account_created_at ON account (created_at, id);
CREATE INDEX account_deleted_at ON account (deleted_at, id) WHERE deleted_at IS NOT NULL;

-- A user has at most one secret for each purpose: another one replaces it. `digests` holds one digest of 32 bytes after
-- the other.
CREATE TABLE one_time_secret (
    user_id    TEXT    NOT NULL,
    purpose    TEXT    NOT NULL,
    digests    BLOB    NOT NULL,
    bound_to   TEXT    NOT NULL,
    tries_left INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, purpose)
) STRICT, WITHOUT ROWID;

CREATE INDEX one_time_secret_expires_at ON one_time_secret (expires_at);

-- The devices on which users have logged in, each known until some time.
CREATE TABLE known_device (
    user_id TEXT    NOT NULL,
    digest  BLOB    NOT NULL CHECK (length(digest) = 32),
    until   INTEGER NOT NULL,
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX known_device_until ON known_device (until);

-- The names of the scopes are separated by spaces.
CREATE TABLE admin_key (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    scopes     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

-- The audit trail, read from its end. Not every event concerns a user.
CREATE TABLE audit (
    id         TEXT    NOT NULL UNIQUE,
    at         INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    user_id    TEXT,
    session_id TEXT,
    ip         TEXT,
    actor      TEXT,
    detail     TEXT,
    PRIMARY KEY (at, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_of_user ON audit (user_id, at, id);
CREATE INDEX audit_of_name ON audit (name, at, id);

-- The mails that wait, each until `next_at`, and the dead letters, each dead since `dead_since`. `sealed` is the
-- message, sealed with the server's secret. A message is large, so the table has row ids.
CREATE TABLE outbox (
    id            TEXT    NOT NULL PRIMARY KEY,
    recipient     TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    user_id       TEXT,
    sealed        BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    useless_after INTEGER,
    attempts      INTEGER NOT NULL,
    next_at       INTEGER,
    dead_since    INTEGER,
    last_error    TEXT,
    CHECK ((next_at IS NULL) <> (dead_since IS NULL))
) STRICT;

CREATE INDEX outbox_next_at ON outbox (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX outbox_dead_since ON outbox (dead_since, id) WHERE dead_since IS NOT NULL;

-- One row: the last number that was given out for a user's id.
CREATE TABLE user_number (
    only_row    INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    last_number INTEGER NOT NULL
) STRICT;
