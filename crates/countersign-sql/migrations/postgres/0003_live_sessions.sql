-- The sessions that were not ended, as they are listed: what was ended long ago costs a list nothing. A refresh changes no
-- column of it. Without the id, so that what looks for one session is never drawn here from the primary key.
CREATE INDEX session_live ON countersign.session (user_id, created_at) WHERE ended_at IS NULL;

-- 32 hexadecimal digits: the hash of the client's whole User-Agent header, of which `user_agent` may lack the end.
ALTER TABLE countersign.session ADD COLUMN agent_hash TEXT COLLATE "C";
