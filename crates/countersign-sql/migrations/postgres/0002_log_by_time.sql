-- The log is read in the order in which it was written, as it lies in the table. In the order of its keys, each entry
-- of a long log would cost a page from the disk.
CREATE INDEX revocation_in_time ON countersign.revocation (at, user_id, kind, ref, n);
DROP INDEX countersign.revocation_at;
