-- One row: the settings that the programs of this store agreed on, and the issuers of tokens before the present one.
CREATE TABLE agreed_settings (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    settings TEXT    NOT NULL
) STRICT;
