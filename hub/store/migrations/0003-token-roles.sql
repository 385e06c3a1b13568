-- A token that may only ask for slots by FleetLock. SQLite cannot change a CHECK, so the table is made again.
CREATE TABLE api_tokens_with_fleetlock (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  role TEXT NOT NULL CHECK (role IN ('admin', 'read', 'fleetlock')),
  created_at INTEGER NOT NULL
) STRICT;
INSERT INTO api_tokens_with_fleetlock (hash, name, role, created_at) SELECT hash, name, role, created_at FROM api_tokens;
DROP TABLE api_tokens;
ALTER TABLE api_tokens_with_fleetlock RENAME TO api_tokens;
