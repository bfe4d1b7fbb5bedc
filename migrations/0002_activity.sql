CREATE DOMAIN activity_outcome AS text CHECK (VALUE IN ('succeeded', 'refused', 'failed'));
CREATE DOMAIN actor_type AS text CHECK (VALUE IN ('member', 'user', 'service', 'directory', 'system'));

-- The activity log. The transaction of a change appends its entry; entries are never changed.
-- No foreign keys, because an entry outlives the rows that it names and every hot statement writes one.
CREATE TABLE activity_entries (
  workspace_id uuid NOT NULL,
  id           bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  -- The writing transaction. Ids commit out of order, so a follower reads only entries whose transaction is older than
  -- every open one (pg_snapshot_xmin). It then never skips an entry.
  xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at           timestamptz(3) NOT NULL DEFAULT now(),
  action       text NOT NULL,
  outcome      activity_outcome NOT NULL,
  -- Set unless the outcome is succeeded.
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
-- Directories write most entries, which the primary key finds. The next two indexes contain only the other entries.
CREATE INDEX activity_entries_actor ON activity_entries (workspace_id, actor_id, id) WHERE actor_type <> 'directory';
CREATE INDEX activity_entries_outcome ON activity_entries (workspace_id, outcome, id) WHERE outcome <> 'succeeded';
-- Entries of one target and of one request.
CREATE INDEX activity_entries_target ON activity_entries (workspace_id, target_id, id) WHERE target_id IS NOT NULL;
CREATE INDEX activity_entries_request ON activity_entries (workspace_id, request_id, id) WHERE request_id IS NOT NULL;
