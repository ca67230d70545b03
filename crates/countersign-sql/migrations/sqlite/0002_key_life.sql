-- From when on a key signs, and when it was removed. A removed key's secret is wiped: `sealed` is empty then.
ALTER TABLE sealed_key ADD COLUMN active_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sealed_key ADD COLUMN removed_at INTEGER;

-- Until now a key signed from the moment it was made.
UPDATE sealed_key SET active_at = created_at;
