-- Times are milliseconds since the Unix epoch. Ids are UUID text, so that an operator can read a row. Ids and keys are
-- compared and ordered byte by byte, whatever the database's own collation is.
--
-- Every table that grows with the users has a primary key that starts with the user's id, so that it can be sharded by
-- it; a name is a record of its own, keyed by the name.

CREATE TABLE countersign.session (
    user_id         TEXT COLLATE "C" NOT NULL,
    id              TEXT COLLATE "C" NOT NULL,
    epoch           BIGINT NOT NULL,
    generation      BIGINT NOT NULL,
    issued_at       BIGINT NOT NULL,
    acknowledged_at BIGINT,
    heals           BIGINT NOT NULL,
    healed_run      BIGINT NOT NULL,
    seed            BYTEA NOT NULL,
    created_at      BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL,
    idle_until      BIGINT NOT NULL,
    absolute_until  BIGINT NOT NULL,
    user_agent      TEXT COLLATE "C",
    ip              TEXT COLLATE "C",
    ended_at        BIGINT,
    end_reason      TEXT COLLATE "C",
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    PRIMARY KEY (user_id, id)
)
-- A refresh changes no column that is indexed. With some room left in its page, the new version of the row goes beside
-- the old one (a HOT update): no index is written, and the next one to read the page clears the old version away.
WITH (fillfactor = 75);

CREATE INDEX session_absolute_until ON countersign.session (absolute_until);

-- The log. Keys of the ring and nodes concern no user: their user_id is empty.
CREATE TABLE countersign.revocation (
    user_id        TEXT COLLATE "C" NOT NULL,
    kind           TEXT COLLATE "C" NOT NULL CHECK (kind IN ('key', 'node', 'session', 'token', 'user')),
    ref            TEXT COLLATE "C" NOT NULL,
    n              BIGINT NOT NULL,
    except_session TEXT COLLATE "C",
    until          BIGINT NOT NULL,
    at             BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, ref, n)
);

-- For the tail of the log.
CREATE INDEX revocation_at ON countersign.revocation (at);
-- For purging. A user's highest `user` entry stays for ever, and must not stand in the way of those that go.
CREATE INDEX revocation_until ON countersign.revocation (until) WHERE kind <> 'user';
CREATE INDEX revocation_user_until ON countersign.revocation (until, user_id, n) WHERE kind = 'user';

-- Callers that revoke tokens of one user one by one queue at that user's row here, so that they keep the limit together.
-- `until` is when the last of these tokens stops mattering, and the row with it.
CREATE TABLE countersign.token_owner (
    user_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    until   BIGINT NOT NULL
)
WITH (fillfactor = 75);

CREATE INDEX token_owner_until ON countersign.token_owner (until);

CREATE TABLE countersign.account (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    email         TEXT COLLATE "C" NOT NULL,
    username      TEXT COLLATE "C",
    password_hash TEXT COLLATE "C",
    created_at    BIGINT NOT NULL,
    disabled_at   BIGINT
);

-- A claimed name: `email` or `username`, by the key that all its spellings share.
CREATE TABLE countersign.account_name (
    kind    TEXT COLLATE "C" NOT NULL CHECK (kind IN ('email', 'username')),
    key     TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES countersign.account (id),
    PRIMARY KEY (kind, key)
);

CREATE INDEX account_name_user_id ON countersign.account_name (user_id);

CREATE TABLE countersign.throttle (
    key           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    failures      BIGINT NOT NULL,
    last_failure  BIGINT,
    running       BIGINT NOT NULL,
    running_until BIGINT NOT NULL,
    touched_at    BIGINT NOT NULL
);

CREATE INDEX throttle_touched_at ON countersign.throttle (touched_at);

-- Keys, sealed with the server's secret. `active_at` is from when on a key signs. A removed key's secret is wiped:
-- `sealed` is empty then.
CREATE TABLE countersign.sealed_key (
    purpose    TEXT COLLATE "C" NOT NULL,
    number     BIGINT NOT NULL,
    key_id     TEXT COLLATE "C" NOT NULL UNIQUE,
    algorithm  TEXT COLLATE "C" NOT NULL,
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    active_at  BIGINT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (purpose, number)
);

-- One row: the store's own identity.
CREATE TABLE countersign.store (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id       TEXT COLLATE "C" NOT NULL
);
