-- Accounts for their whole life. What is added has defaults, so that nodes of the version before go on beside it.

-- An account may have a username alone. The names of its roles are separated by spaces. `revision` is the number of its
-- changes. Users are listed by the time of their registration.
SET @change = IF((SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()
        AND TABLE_NAME = 'countersign_account' AND COLUMN_NAME = 'revision') = 0,
    'ALTER TABLE countersign_account
        MODIFY COLUMN email VARBINARY(320) NULL,
        ADD COLUMN email_verified_at BIGINT,
        ADD COLUMN roles VARBINARY(2100) NOT NULL DEFAULT '''',
        ADD COLUMN language VARBINARY(35),
        ADD COLUMN deleted_at BIGINT,
        ADD COLUMN revision BIGINT NOT NULL DEFAULT 0,
        ADD KEY created_at (created_at, id),
        ADD KEY deleted_at (deleted_at, id)', 'DO 0');
PREPARE change_of_table FROM @change;
EXECUTE change_of_table;
DEALLOCATE PREPARE change_of_table;

-- A user has at most one secret for each purpose: another one replaces it. `digests` holds one digest of 32 bytes after
-- the other.
CREATE TABLE IF NOT EXISTS countersign_one_time_secret (
    user_id    VARBINARY(255)  NOT NULL,
    purpose    VARBINARY(32)   NOT NULL,
    digests    VARBINARY(1024) NOT NULL,
    bound_to   BLOB            NOT NULL,
    tries_left BIGINT          NOT NULL,
    created_at BIGINT          NOT NULL,
    expires_at BIGINT          NOT NULL,
    PRIMARY KEY (user_id, purpose),
    KEY expires_at (expires_at)
) ENGINE = InnoDB;

-- The devices on which users have logged in, each known until some time.
CREATE TABLE IF NOT EXISTS countersign_known_device (
    user_id VARBINARY(255) NOT NULL,
    digest  VARBINARY(32)  NOT NULL,
    until   BIGINT         NOT NULL,
    PRIMARY KEY (user_id, digest),
    KEY until (until)
) ENGINE = InnoDB;

-- The names of the scopes are separated by spaces.
CREATE TABLE IF NOT EXISTS countersign_admin_key (
    id         VARBINARY(36)   NOT NULL PRIMARY KEY,
    name       BLOB            NOT NULL,
    digest     VARBINARY(32)   NOT NULL,
    scopes     VARBINARY(1024) NOT NULL,
    created_at BIGINT          NOT NULL,
    expires_at BIGINT
) ENGINE = InnoDB;

-- The audit trail, read from its end. Not every event concerns a user.
CREATE TABLE IF NOT EXISTS countersign_audit (
    id         VARBINARY(36)  NOT NULL,
    at         BIGINT         NOT NULL,
    name       VARBINARY(255) NOT NULL,
    user_id    VARBINARY(255),
    session_id VARBINARY(36),
    ip         VARBINARY(64),
    actor      BLOB,
    detail     BLOB,
    PRIMARY KEY (at, id),
    UNIQUE KEY id (id),
    KEY of_user (user_id, at, id),
    KEY of_name (name, at, id)
) ENGINE = InnoDB;

-- The mails that wait, each until `next_at`, and the dead letters, each dead since `dead_since`. `sealed` is the
-- message, sealed with the server's secret.
CREATE TABLE IF NOT EXISTS countersign_outbox (
    id            VARBINARY(36)  NOT NULL PRIMARY KEY,
    recipient     VARBINARY(320) NOT NULL,
    kind          VARBINARY(64)  NOT NULL,
    user_id       VARBINARY(255),
    sealed        MEDIUMBLOB     NOT NULL,
    created_at    BIGINT         NOT NULL,
    useless_after BIGINT,
    attempts      BIGINT         NOT NULL,
    next_at       BIGINT,
    dead_since    BIGINT,
    last_error    BLOB,
    CHECK ((next_at IS NULL) <> (dead_since IS NULL)),
    KEY next_at (next_at, id),
    KEY dead_since (dead_since, id)
) ENGINE = InnoDB;

-- One row: the last number that was given out for a user's id.
CREATE TABLE IF NOT EXISTS countersign_user_number (
    only_row    BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    last_number BIGINT NOT NULL
) ENGINE = InnoDB;
