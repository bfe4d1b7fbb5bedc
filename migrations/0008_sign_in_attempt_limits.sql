-- Open attempts are limited per network and workspace, so that one office can sign in to several workspaces and no workspace can use
-- up another's limit.
DROP INDEX sign_in_attempts_address;
CREATE INDEX sign_in_attempts_network ON sign_in_attempts (address, workspace_id, expires_at) WHERE taken_at IS NULL;
