-- What the coordinator and the rollouts keep: one row a thing, each a JSON document, so that a step writes only what it
-- changed. All rows of a step are written in one transaction, with an fsync.
CREATE TABLE coordination (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  -- Maps keep the order in which things were made.
  position INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- What a node said last about its updates.
ALTER TABLE node_state ADD COLUMN updates TEXT;

-- What was decided and perhaps not done yet.
CREATE TABLE coordination_outbox (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  body TEXT NOT NULL
) STRICT;
