-- The database of a Flask application with Flask-SQLAlchemy and Flask-JWT-Extended: integer ids, hashes of three ages,
-- a role column, and a table of revoked tokens. Every password is "correct horse battery staple". The hashes are those
-- of the real libraries in crates/countersign-core/tests/imported_hashes.
CREATE TABLE user (
	id INTEGER NOT NULL,
	username VARCHAR(80) NOT NULL,
	email VARCHAR(120),
	password_hash VARCHAR(256),
	role VARCHAR(80),
	email_confirmed_at DATETIME,
	created_at DATETIME,
	PRIMARY KEY (id),
	UNIQUE (username)
);
INSERT INTO user VALUES
	(1, 'ada', 'ada@example.org', 'scrypt:1024:8:1$VTCwQrVS00eSC2X6$713cdffa9fe6929580f525fe452c71bc6fbaf8153a5072d001c75c363e4a2bfbf6a19b0b9ef2c8955bf5714fb084d13a66acc395244e5a1fc7768a00fff8dd62', 'admin', '2025-02-01 10:00:00.000000', '2025-01-31 10:00:00.000000'),
	(2, 'bob', 'bob@example.org', 'pbkdf2:sha256:1000$8ECaAJnLyrjFdw3p$abd1e32e4d71a49510a7bc1c2a197ebf01f33990430ee3b862c7f1a47e13f751', 'editor, author', NULL, '2023-01-31 10:00:00.000000'),
	(5, 'cleo', NULL, '$2b$04$blFlDKPQMEXEgQbJS7JUteM5MpvOSLs9iPW1WG7e1HONpiGgqXBw.', NULL, NULL, '2019-01-31 10:00:00.000000'),
	(17, 'dan', 'dan@example.org', 'pbkdf2:sha1:1000$Mpswg2UDSIlv7T3z$9060e2a9fd0d0d195025ebce162e9d322532fdba', 'Super User, x', NULL, NULL);
CREATE TABLE token_blocklist (
	id INTEGER NOT NULL,
	jti VARCHAR(36) NOT NULL,
	type VARCHAR(16) NOT NULL,
	user_id INTEGER,
	created_at DATETIME NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX ix_token_blocklist_jti ON token_blocklist (jti);
INSERT INTO token_blocklist VALUES
	(1, '7d5f1b1e-7b0c-4d53-8d0c-0f0a4a1f2b3c', 'access', 1, '2020-01-31 10:00:00.000000'),
	(2, 'not the id of a token', 'access', 1, CURRENT_TIMESTAMP),
	(3, '1b4e28ba-2fa1-41d2-883f-0016d3cca427', 'access', 99, CURRENT_TIMESTAMP),
	(4, '6fa459ea-ee8a-4ca4-894e-db77e160355e', 'access', NULL, CURRENT_TIMESTAMP);
