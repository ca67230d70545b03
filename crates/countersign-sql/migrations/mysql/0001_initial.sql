-- Times are milliseconds since the Unix epoch. Ids are UUID text. Text is kept as its UTF-8 bytes, so that it is
-- compared and ordered byte by byte and a space at its end counts, whatever the server's character sets and
-- collations are. To read it in the `mysql` program, start that with --skip-binary-as-hex.
--
-- MySQL ends a transaction at every change of a table, so each statement here may be run again: after a crash half-way
-- the next start does the rest.
--
-- Every table that grows with the users has a primary key that starts with the user's id, so that it can be sharded by
-- it; a name is a record of its own, keyed by the name. There are no foreign keys, which sharded relatives lack.

CREATE TABLE IF NOT EXISTS countersign_session (
    user_id         VARBINARY(255) NOT NULL,
    id              VARBINARY(36)  NOT NULL,
    epoch           BIGINT         NOT NULL,
    generation      BIGINT         NOT NULL,
    issued_at       BIGINT         NOT NULL,
    acknowledged_at BIGINT,
    heals           BIGINT         NOT NULL,
    healed_run      BIGINT         NOT NULL,
    seed            VARBINARY(32)  NOT NULL,
    created_at      BIGINT         NOT NULL,
    last_seen_at    BIGINT         NOT NULL,
    idle_until      BIGINT         NOT NULL,
    absolute_until  BIGINT         NOT NULL,
    user_agent      VARBINARY(1024),
    ip              VARBINARY(64),
    ended_at        BIGINT,
    end_reason      VARBINARY(32),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    PRIMARY KEY (user_id, id),
    KEY absolute_until (absolute_until)
) ENGINE = InnoDB;

-- The log. Keys of the ring and nodes concern no user: their user_id is empty.
CREATE TABLE IF NOT EXISTS countersign_revocation (
    user_id        VARBINARY(255) NOT NULL,
    kind           VARBINARY(8)   NOT NULL CHECK (kind IN ('key', 'node', 'session', 'token', 'user')),
    ref            VARBINARY(255) NOT NULL,
    n              BIGINT         NOT NULL,
    except_session VARBINARY(36),
    until          BIGINT         NOT NULL,
    at             BIGINT         NOT NULL,
    PRIMARY KEY (user_id, kind, ref, n),
    -- For the tail of the log.
    KEY at (at),
    -- For purging. A user's highest `user` entry stays for ever, and must not stand in the way of those that go.
    KEY kind_until (kind, until, user_id, n)
) ENGINE = InnoDB;

-- Callers that revoke tokens of one user one by one queue at that user's row here, so that they keep the limit
-- together. `until` is when the last of these tokens stops mattering, and the row with it.
CREATE TABLE IF NOT EXISTS countersign_token_owner (
    user_id VARBINARY(255) NOT NULL PRIMARY KEY,
    until   BIGINT         NOT NULL,
    KEY until (until)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS countersign_account (
    id            VARBINARY(255) NOT NULL PRIMARY KEY,
    email         VARBINARY(320) NOT NULL,
    username      VARBINARY(320),
    password_hash BLOB,
    created_at    BIGINT         NOT NULL,
    disabled_at   BIGINT
) ENGINE = InnoDB;

-- A claimed name: `email` or `username`, by the text that all its spellings share.
CREATE TABLE IF NOT EXISTS countersign_account_name (
    kind    VARBINARY(8)   NOT NULL CHECK (kind IN ('email', 'username')),
    name    VARBINARY(320) NOT NULL,
    user_id VARBINARY(255) NOT NULL,
    PRIMARY KEY (kind, name)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS countersign_throttle (
    counter       VARBINARY(512) NOT NULL PRIMARY KEY,
    failures      BIGINT         NOT NULL,
    last_failure  BIGINT,
    running       BIGINT         NOT NULL,
    running_until BIGINT         NOT NULL,
    touched_at    BIGINT         NOT NULL,
    KEY touched_at (touched_at)
) ENGINE = InnoDB;

-- Keys, sealed with the server's secret. `active_at` is from when on a key signs. A removed key's secret is wiped:
-- `sealed` is empty then.
CREATE TABLE IF NOT EXISTS countersign_sealed_key (
    purpose    VARBINARY(32)  NOT NULL,
    number     BIGINT         NOT NULL,
    key_id     VARBINARY(128) NOT NULL,
    algorithm  VARBINARY(32)  NOT NULL,
    sealed     BLOB           NOT NULL,
    created_at BIGINT         NOT NULL,
    active_at  BIGINT         NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (purpose, number),
    UNIQUE KEY key_id (key_id)
) ENGINE = InnoDB;

-- One row: the store's own identity.
CREATE TABLE IF NOT EXISTS countersign_store (
    only_row BIGINT        NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id       VARBINARY(36) NOT NULL
) ENGINE = InnoDB;
