CREATE DOMAIN activity_outcome AS text CHECK (VALUE IN ('succeeded', 'refused', 'failed'));
CREATE DOMAIN actor_type AS text CHECK (VALUE IN ('member', 'user', 'service', 'directory', 'system'));

-- What happened, appended in the transaction that made it happen and never changed.
-- No foreign keys: an entry outlives what it names, and one is written by every hot statement.
CREATE TABLE activity_entries (
  workspace_id uuid NOT NULL,
  id           bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  -- The writing transaction. Ids commit out of order; a follower reads only entries whose transaction is older than
  -- every open one (pg_snapshot_xmin), and so never skips one.
  xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at           timestamptz(3) NOT NULL DEFAULT now(),
  action       text NOT NULL,
  outcome      activity_outcome NOT NULL,
  -- Set unless it succeeded.
  reason       text,
  actor_type   actor_type NOT NULL,
  actor_id     text,
  member_id    uuid,
  target_type  text,
  target_id    text,
  request_id   text,
  detail       jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (workspace_id, id)
);
CREATE INDEX activity_entries_member ON activity_entries (workspace_id, member_id, id) WHERE member_id IS NOT NULL;
CREATE INDEX activity_entries_action ON activity_entries (workspace_id, action, id);
-- Directories write most entries and are found by the primary key; these two serve the rare rest.
CREATE INDEX activity_entries_actor ON activity_entries (workspace_id, actor_id, id) WHERE actor_type <> 'directory';
CREATE INDEX activity_entries_outcome ON activity_entries (workspace_id, outcome, id) WHERE outcome <> 'succeeded';
-- What happened to one thing, and in one request.
CREATE INDEX activity_entries_target ON activity_entries (workspace_id, target_id, id) WHERE target_id IS NOT NULL;
CREATE INDEX activity_entries_request ON activity_entries (workspace_id, request_id, id) WHERE request_id IS NOT NULL;
