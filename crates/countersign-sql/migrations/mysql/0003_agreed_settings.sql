-- One row: the settings that the programs of this store agreed on, and the issuers of tokens before the present one.
CREATE TABLE IF NOT EXISTS countersign_agreed_settings (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    settings BLOB   NOT NULL
) ENGINE = InnoDB;
