-- Accounts for their whole life. What is added has defaults, so that nodes of the version before go on beside it.

-- Users are listed by the time of their registration.
CREATE INDEX account_created_at ON countersign.account (created_at, id);

-- A user has at most one secret for each purpose: another one replaces it. `digests` holds one digest of 32 bytes after
-- the other.
CREATE TABLE countersign.one_time_secret (
    user_id    TEXT COLLATE "C" NOT NULL,
    purpose    TEXT COLLATE "C" NOT NULL,
    digests    BYTEA NOT NULL,
    bound_to   TEXT COLLATE "C" NOT NULL,
    tries_left BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, purpose)
);

CREATE INDEX one_time_secret_expires_at ON countersign.one_time_secret (expires_at);

-- The devices on which users have logged in, each known until some time.
CREATE TABLE countersign.known_device (
    user_id TEXT COLLATE "C" NOT NULL,
    digest  BYTEA NOT NULL,
    until   BIGINT NOT NULL,
    PRIMARY KEY (user_id, digest)
);

CREATE INDEX known_device_until ON countersign.known_device (until);

-- The names of the scopes are separated by spaces.
CREATE TABLE countersign.admin_key (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL,
    digest     BYTEA NOT NULL,
    scopes     TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);

-- The audit trail, read from its end. Not every event concerns a user.
CREATE TABLE countersign.audit (
    id         TEXT COLLATE "C" NOT NULL UNIQUE,
    at         BIGINT NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C",
    session_id TEXT COLLATE "C",
    ip         TEXT COLLATE "C",
    actor      TEXT COLLATE "C",
    detail     TEXT COLLATE "C",
    PRIMARY KEY (at, id)
);

CREATE INDEX audit_of_user ON countersign.audit (user_id, at, id);
CREATE INDEX audit_of_name ON countersign.audit (name, at, id);

-- The mails that wait, each until `next_at`, and the dead letters, each dead since `dead_since`. `sealed` is the
-- message, sealed with the server's secret.
CREATE TABLE countersign.outbox (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    recipient     TEXT COLLATE "C" NOT NULL,
    kind          TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C",
    sealed        BYTEA NOT NULL,
    created_at    BIGINT NOT NULL,
    useless_after BIGINT,
    attempts      BIGINT NOT NULL,
    next_at       BIGINT,
    dead_since    BIGINT,
    last_error    TEXT COLLATE "C",
    CHECK ((next_at IS NULL) <> (dead_since IS NULL))
);

CREATE INDEX outbox_next_at ON countersign.outbox (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX outbox_dead_since ON countersign.outbox (dead_since, id) WHERE dead_since IS NOT NULL;

-- One row: the last number that was given out for a user's id.
CREATE TABLE countersign.user_number (
    only_row    BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    last_number BIGINT NOT NULL
);

-- An account may have a username alone. The names of its roles are separated by spaces. `revision` is the number of its
-- changes. The change comes last, because others wait for the table from here on; it writes no row.
ALTER TABLE countersign.account
    ALTER COLUMN email DROP NOT NULL,
    ADD COLUMN email_verified_at BIGINT,
    ADD COLUMN roles TEXT COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN language TEXT COLLATE "C",
    ADD COLUMN deleted_at BIGINT,
    ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

CREATE INDEX account_deleted_at ON countersign.account (deleted_at, id) WHERE deleted_at IS NOT NULL;
