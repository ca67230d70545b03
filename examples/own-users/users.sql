-- The table of an application that was there before Countersign, with hashes that werkzeug 3.1 has made.
CREATE TABLE IF NOT EXISTS users (
    id            INTEGER PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    name          TEXT    NOT NULL,
    password_hash TEXT,
    role          TEXT    NOT NULL DEFAULT 'member',
    is_active     BOOLEAN NOT NULL DEFAULT TRUE,
    created_at    TEXT    NOT NULL DEFAULT CURRENT_TIMESTAMP
);

INSERT OR IGNORE INTO users (id, email, name, password_hash, role, is_active) VALUES
    (17, 'ada@example.com', 'Ada', 'scrypt:32768:8:1$yRq9OLsWkkFonCae$d9c7904710616872039ebb323446c92b0a18d9efafa5c2d64c7c1e41ffdfd89869136e2919a73bf7362b34c655fc7cfbdb33efd0d2961e3f265b0374678bea9d', 'admin', TRUE), -- correct horse
    (18, 'bob@example.com', 'Bob', 'pbkdf2:sha256:1000000$UN9YSsDyN32q9YyN$dfe205e7eb9fed51f5def79e0a210e51c6e0bda74a82aa918657e2516a649403', 'member', TRUE), -- battery staple
    (19, 'eve@example.com', 'Eve', 'pbkdf2:sha256:1000000$UN9YSsDyN32q9YyN$dfe205e7eb9fed51f5def79e0a210e51c6e0bda74a82aa918657e2516a649403', 'member', FALSE); -- battery staple
