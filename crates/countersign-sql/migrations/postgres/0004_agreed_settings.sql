-- One row: the settings that the programs of this store agreed on, and the issuers of tokens before the present one.
CREATE TABLE countersign.agreed_settings (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    settings TEXT COLLATE "C" NOT NULL
);
