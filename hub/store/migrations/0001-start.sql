-- One row a node that was ever added; revoked ones stay, so that their history can still be read.
CREATE TABLE nodes (
  name TEXT PRIMARY KEY,
  added_at INTEGER NOT NULL,
  enrolled_at INTEGER,
  revoked_at INTEGER,
  machine_id TEXT,
  mark TEXT,
  last_seen_at INTEGER
) STRICT;
CREATE INDEX nodes_by_machine ON nodes (machine_id);

CREATE TABLE certificates (
  serial TEXT PRIMARY KEY,
  node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
  issued_at INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;
CREATE INDEX certificates_by_node ON certificates (node, issued_at);

-- Tokens, sessions: only the SHA-256 of what was handed out is kept.
CREATE TABLE enrolment_tokens (
  hash TEXT PRIMARY KEY,
  node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at INTEGER
) STRICT;
CREATE INDEX enrolment_tokens_by_node ON enrolment_tokens (node);

CREATE TABLE api_tokens (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  role TEXT NOT NULL CHECK (role IN ('admin', 'read')),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('admin', 'read')),
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- The main branch as it was pushed; `position` grows along it, `tip` is the last commit of the same push.
CREATE TABLE commits (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  tip TEXT NOT NULL,
  subject TEXT NOT NULL,
  author TEXT NOT NULL,
  signer TEXT NOT NULL,
  pushed_by TEXT NOT NULL,
  pushed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE arrivals (
  tip TEXT NOT NULL,
  node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
  after_ms INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  PRIMARY KEY (tip, node)
) STRICT;

CREATE TABLE converges (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  commit_id TEXT NOT NULL,
  cause TEXT NOT NULL,
  outcome TEXT NOT NULL,
  changes_done INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  report TEXT NOT NULL,
  UNIQUE (node, stream, seq)
) STRICT;
CREATE INDEX converges_by_node ON converges (node, id);
CREATE INDEX converges_of_drift ON converges (node, received_at) WHERE changes_done > 0 AND cause IN ('drift', 'sweep');

-- Up to where each stream of events is known without a gap, and what arrived beyond one.
CREATE TABLE streams (
  node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
  stream TEXT NOT NULL,
  ack_seq INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (node, stream)
) STRICT;

CREATE TABLE early_events (
  node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (node, stream, seq)
) STRICT;

-- The last word of each node on each retained topic, and its last plan, as JSON.
CREATE TABLE node_state (
  node TEXT PRIMARY KEY REFERENCES nodes (name) ON DELETE CASCADE,
  state TEXT,
  converge TEXT,
  facts TEXT,
  plan TEXT,
  plan_at INTEGER,
  refusal TEXT
) STRICT;

CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
