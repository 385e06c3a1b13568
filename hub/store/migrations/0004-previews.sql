-- Branches that the nodes plan without applying, and what each node said. `nodes` is a JSON list of the names that stand in
-- the preview; null where the hub does not hold the branch itself.
CREATE TABLE previews (
  branch TEXT PRIMARY KEY,
  position INTEGER NOT NULL UNIQUE,
  commit_id TEXT NOT NULL,
  base TEXT,
  subject TEXT NOT NULL,
  author TEXT NOT NULL,
  pushed_by TEXT NOT NULL,
  pushed_at INTEGER NOT NULL,
  throwaway INTEGER NOT NULL,
  nodes TEXT
) STRICT;

CREATE TABLE preview_answers (
  id TEXT PRIMARY KEY,
  branch TEXT NOT NULL REFERENCES previews (branch) ON DELETE CASCADE,
  node TEXT NOT NULL,
  asked_at INTEGER,
  answered_at INTEGER,
  failure TEXT,
  report TEXT,
  changes INTEGER,
  impact TEXT,
  took_ms REAL,
  size_bytes INTEGER NOT NULL,
  UNIQUE (branch, node)
) STRICT;
