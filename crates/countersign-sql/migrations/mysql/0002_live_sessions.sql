-- MySQL knows no `ADD COLUMN IF NOT EXISTS`, so each change asks first whether it was made.

-- The sessions that were not ended, as they are listed: what was ended long ago costs a list nothing. A refresh changes no
-- column of it.
SET @change = IF((SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE()
        AND TABLE_NAME = 'countersign_session' AND INDEX_NAME = 'live') = 0,
    'ALTER TABLE countersign_session ADD KEY live (user_id, ended_at, created_at, id)', 'DO 0');
PREPARE change_of_table FROM @change;
EXECUTE change_of_table;
DEALLOCATE PREPARE change_of_table;

-- 32 hexadecimal digits: the hash of the client's whole User-Agent header, of which `user_agent` may lack the end.
SET @change = IF((SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()
        AND TABLE_NAME = 'countersign_session' AND COLUMN_NAME = 'agent_hash') = 0,
    'ALTER TABLE countersign_session ADD COLUMN agent_hash VARBINARY(32)', 'DO 0');
PREPARE change_of_table FROM @change;
EXECUTE change_of_table;
DEALLOCATE PREPARE change_of_table;
