-- Keys of what a directory holds, in the order (directory_id, what is looked for, workspace_id). A directory is of one
-- workspace, which the planner does not know: two keys that share both columns at their beginning look to it as if those
-- alone found a single row, and by which it goes is then chance (docs/decisions/0017).

ALTER TABLE scim_users
  DROP CONSTRAINT scim_users_pkey,
  ADD PRIMARY KEY (directory_id, id, workspace_id);
DROP INDEX scim_users_user_name;
CREATE UNIQUE INDEX scim_users_user_name ON scim_users (directory_id, user_name_key, workspace_id);
DROP INDEX scim_users_external_id;
CREATE INDEX scim_users_external_id ON scim_users (directory_id, external_id, workspace_id) WHERE external_id IS NOT NULL;

ALTER TABLE scim_group_subgroups
  DROP CONSTRAINT scim_group_subgroups_workspace_id_directory_id_group_id_fkey,
  DROP CONSTRAINT scim_group_subgroups_workspace_id_directory_id_subgroup_id_fkey,
  DROP CONSTRAINT scim_group_subgroups_pkey;
ALTER TABLE group_mappings
  DROP CONSTRAINT group_mappings_workspace_id_directory_id_scim_group_id_fkey;
ALTER TABLE scim_groups
  DROP CONSTRAINT scim_groups_pkey,
  ADD PRIMARY KEY (directory_id, id, workspace_id);
DROP INDEX scim_groups_display_name;
CREATE UNIQUE INDEX scim_groups_display_name ON scim_groups (directory_id, display_name_key, workspace_id);
DROP INDEX scim_groups_external_id;
CREATE INDEX scim_groups_external_id ON scim_groups (directory_id, external_id, workspace_id) WHERE external_id IS NOT NULL;

ALTER TABLE scim_group_memberships
  DROP CONSTRAINT scim_group_memberships_pkey,
  ADD PRIMARY KEY (directory_id, group_id, user_id, workspace_id);
DROP INDEX scim_group_memberships_user;
CREATE INDEX scim_group_memberships_user ON scim_group_memberships (directory_id, user_id, group_id, workspace_id);

DROP INDEX scim_group_subgroups_inner;
ALTER TABLE scim_group_subgroups
  ADD PRIMARY KEY (directory_id, group_id, subgroup_id, workspace_id),
  ADD FOREIGN KEY (workspace_id, directory_id, group_id)
    REFERENCES scim_groups (workspace_id, directory_id, id) ON DELETE CASCADE,
  ADD FOREIGN KEY (workspace_id, directory_id, subgroup_id)
    REFERENCES scim_groups (workspace_id, directory_id, id) ON DELETE CASCADE;
CREATE INDEX scim_group_subgroups_inner ON scim_group_subgroups (directory_id, subgroup_id, group_id, workspace_id);
ALTER TABLE group_mappings
  ADD FOREIGN KEY (workspace_id, directory_id, scim_group_id)
    REFERENCES scim_groups (workspace_id, directory_id, id) ON DELETE CASCADE;

ALTER TABLE guarded_removals
  DROP CONSTRAINT guarded_removals_pkey,
  ADD PRIMARY KEY (directory_id, user_id, workspace_id);
DROP INDEX guarded_removals_state;
CREATE INDEX guarded_removals_state ON guarded_removals (directory_id, state, last_at, workspace_id);
