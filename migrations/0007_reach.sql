-- Whoever sets by whom people are proven could have an identity provider of their own call anybody anything. So what is set
-- speaks for nobody above whoever set it: the highest role that a sign-in by it can newly link or give. Absent: every role;
-- an owner or a back-end of Assist has set it, or it was set before there was this limit.
ALTER TABLE sso_configs ADD COLUMN max_linkable_role text CHECK (max_linkable_role <> '');

-- The same of the settings under test, were they saved by whoever made the test.
ALTER TABLE sso_sign_in_tests ADD COLUMN max_linkable_role text CHECK (max_linkable_role <> '');

-- The same of a directory: of whoever made it, or a token of it.
ALTER TABLE directories ADD COLUMN max_linkable_role text CHECK (max_linkable_role <> '');
