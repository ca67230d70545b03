-- Times are milliseconds since the Unix epoch. Ids are UUID text, so that the order of keys is the order of
-- their text and an operator can read a row.

CREATE TABLE session (
    user_id         TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    epoch           INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    issued_at       INTEGER NOT NULL,
    acknowledged_at INTEGER,
    heals           INTEGER NOT NULL,
    healed_run      INTEGER NOT NULL,
    seed            BLOB    NOT NULL CHECK (length(seed) = 32),
    created_at      INTEGER NOT NULL,
    last_seen_at    INTEGER NOT NULL,
    idle_until      INTEGER NOT NULL,
    absolute_until  INTEGER NOT NULL,
    user_agent      TEXT,
    ip              TEXT,
    ended_at        INTEGER,
    end_reason      TEXT,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    PRIMARY KEY (user_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX session_absolute_until ON session (absolute_until);

-- The log. Keys of the ring concern no user: their user_id is empty.
CREATE TABLE revocation (
    user_id        TEXT    NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('key', 'session', 'token', 'user')),
    ref            TEXT    NOT NULL,
    n              INTEGER NOT NULL,
    except_session TEXT,
    until          INTEGER NOT NULL,
    at             INTEGER NOT NULL,
    PRIMARY KEY (user_id, kind, ref, n)
) STRICT, WITHOUT ROWID;

-- For the tail of the log.
CREATE INDEX revocation_at ON revocation (at);
-- For purging. A user's highest `user` entry stays for ever, and must not stand in the way of those that go.
CREATE INDEX revocation_until ON revocation (until) WHERE kind <> 'user';
CREATE INDEX revocation_user_until ON revocation (until) WHERE kind = 'user';

CREATE TABLE account (
    id            TEXT    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL,
    username      TEXT,
    password_hash TEXT,
    created_at    INTEGER NOT NULL,
    disabled_at   INTEGER
) STRICT, WITHOUT ROWID;

-- A claimed name: `email` or `username`, by the key that all its spellings share.
CREATE TABLE account_name (
    kind    TEXT NOT NULL CHECK (kind IN ('email', 'username')),
    key     TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES account (id),
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX account_name_user_id ON account_name (user_id);

CREATE TABLE throttle (
    key           TEXT    NOT NULL PRIMARY KEY,
    failures      INTEGER NOT NULL,
    last_failure  INTEGER,
    running       INTEGER NOT NULL,
    running_until INTEGER NOT NULL,
    touched_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX throttle_touched_at ON throttle (touched_at);

-- Keys, sealed with the server's secret.
CREATE TABLE sealed_key (
    purpose    TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    key_id     TEXT    NOT NULL UNIQUE,
    algorithm  TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (purpose, number)
) STRICT, WITHOUT ROWID;

-- One row: the store's own identity.
CREATE TABLE store (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id       TEXT    NOT NULL
) STRICT;
