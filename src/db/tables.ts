// Written by `npm run db:types` from the migrated database; a test holds the two together.
import type { Generated, GeneratedAlways } from 'kysely'

export interface AccessChangesTable {
  workspace_id: string
  id: GeneratedAlways<number>
  member_id: string
  entry_id: number
  at: Generated<string>
  status_before: string | null
  status_after: string
  role_before: string | null
  role_after: string
  groups_gained: Generated<string[]>
  groups_lost: Generated<string[]>
  rules: Generated<string[]>
  manual_role: string | null
  manual_policy: string | null
}

export interface ActivityEntriesTable {
  workspace_id: string
  id: GeneratedAlways<number>
  xid: Generated<string>
  at: Generated<string>
  action: string
  outcome: 'succeeded' | 'refused' | 'failed'
  reason: string | null
  actor_type: 'member' | 'user' | 'service' | 'directory' | 'system'
  actor_id: string | null
  member_id: string | null
  target_type: string | null
  target_id: string | null
  request_id: string | null
  detail: Generated<unknown>
}

export interface DirectoriesTable {
  workspace_id: string
  id: string
  name: string
  mode: Generated<'tolerant' | 'strict'>
  enabled: Generated<boolean>
  when_off: Generated<'keep' | 'release'>
  awaited_groups: Generated<string[]>
  guard_people: number | null
  guard_percent: number | null
  guard_minutes: Generated<number>
  is_guarded: Generated<boolean>
  nests_groups: Generated<boolean>
  max_linkable_role: string | null
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface DirectoryCredentialsTable {
  workspace_id: string
  directory_id: string
  id: string
  enabled: boolean
  is_guarded: boolean
  nests_groups: boolean
  token_hash: Buffer
  hint: string
  created_at: Generated<string>
  expires_at: string | null
  revoked_at: string | null
  last_used_at: string | null
}

export interface DomainsTable {
  workspace_id: string
  domain: string
  verified_at: string | null
  verified_by: 'operator' | 'dns' | null
  challenge: string | null
  checked_at: string | null
  missing_since: string | null
  created_at: Generated<string>
}

export interface ExchangeCodesTable {
  workspace_id: string
  code_hash: Buffer
  session_id: string
  handoff_challenge: string
  return_to: string
  expires_at: string
  used_at: string | null
}

export interface GroupMappingVersionsTable {
  workspace_id: string
  id: GeneratedAlways<number>
  mapping_id: string
  entry_id: number
  at: Generated<string>
  is_deleted: Generated<boolean>
  directory_id: string | null
  scim_group_id: string | null
  awaited_group: string | null
  claimed_group: string | null
  group_id: string | null
  role: string | null
}

export interface GroupMappingsTable {
  workspace_id: string
  id: string
  directory_id: string | null
  scim_group_id: string | null
  awaited_group: string | null
  claimed_group: string | null
  group_id: string | null
  role: string | null
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface GroupMembershipsTable {
  workspace_id: string
  group_id: string
  member_id: string
}

export interface GroupsTable {
  workspace_id: string
  id: string
  name: string
  name_key: string
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface GuardedRemovalsTable {
  workspace_id: string
  directory_id: string
  user_id: string
  member_id: string
  operation: 'deactivate' | 'delete'
  state: 'passed' | 'held' | 'accepted' | 'released'
  attempts: Generated<number>
  first_at: Generated<string>
  last_at: Generated<string>
}

export interface IdentitiesTable {
  workspace_id: string
  issuer: string
  subject: string
  member_id: string
  linked_by: 'provisioned' | 'email' | 'invitation' | 'directory' | 'claim' | 'member'
  stable_id: string | null
  created_at: Generated<string>
  last_sign_in_at: string | null
}

export interface LogoutTokensTable {
  workspace_id: string
  issuer: string
  jti_hash: Buffer
  expires_at: string
}

export interface MembersTable {
  workspace_id: string
  id: string
  email: string | null
  email_key: string | null
  display_name: string | null
  status: 'invited' | 'active' | 'deactivated'
  deactivated_by: 'admin' | 'directory' | null
  role: string
  rules: Generated<string[]>
  manual_role: string | null
  manual_policy: 'floor' | 'locked' | null
  claimed_groups: Generated<string[]>
  origin: 'invite' | 'sso' | 'directory'
  invitation_expires_at: string | null
  reactivated_at: string | null
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface RecoveryCodesTable {
  workspace_id: string
  code_hash: Buffer
  member_id: string
  created_at: Generated<string>
  used_at: string | null
}

export interface ScimCountersTable {
  workspace_id: string
  directory_id: string
  resource_type: 'User' | 'Group'
  slot: number
  total: number
  deleted: Generated<number>
}

export interface ScimFormerUsersTable {
  workspace_id: string
  directory_id: string
  external_id: string
  member_id: string
  deleted_at: Generated<string>
}

export interface ScimGroupMembershipsTable {
  workspace_id: string
  directory_id: string
  group_id: string
  user_id: string
}

export interface ScimGroupSubgroupsTable {
  workspace_id: string
  directory_id: string
  group_id: string
  subgroup_id: string
}

export interface ScimGroupsTable {
  workspace_id: string
  directory_id: string
  id: string
  display_name: string
  display_name_key: string
  external_id: string | null
  version: Generated<number>
  reach_version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
  doc: string
}

export interface ScimUsersTable {
  workspace_id: string
  directory_id: string
  id: string
  user_name: string
  user_name_key: string
  external_id: string | null
  email_keys: Generated<string[]>
  active: boolean
  member_id: string
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
  doc: string
}

export interface SessionsTable {
  workspace_id: string
  id: string
  member_id: string
  token_hash: Buffer | null
  method: Generated<'sso' | 'recovery'>
  issuer: string | null
  subject: string | null
  config_version: number | null
  idp_session_id: string | null
  id_token_sealed: Buffer | null
  auth_time: string | null
  acr: string | null
  amr: string[] | null
  address: string | null
  user_agent: string | null
  created_at: Generated<string>
  last_seen_at: Generated<string>
  idle_minutes: number
  expires_at: string
  ended_at: string | null
  end_reason: string | null
}

export interface SignInAttemptsTable {
  workspace_id: string
  state_hash: Buffer
  browser_hash: Buffer
  nonce: string
  verifier_sealed: Buffer
  issuer: string
  config_version: number
  return_to: string
  handoff_challenge: string
  restarts: Generated<number>
  sign_in_test_id: string | null
  address: string
  created_at: Generated<string>
  expires_at: string
  taken_at: string | null
  outcome: string | null
  outcome_code: Buffer | null
  outcome_entry_id: number | null
}

export interface SignInPoliciesTable {
  workspace_id: string
  session_hours: number
  session_idle_minutes: number
  max_age_seconds: number | null
  acr_values: Generated<string[]>
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface SigningKeysTable {
  kid: string
  public_jwk: unknown
  private_sealed: Buffer
  created_at: Generated<string>
  retires_at: string
  expires_at: string
}

export interface SsoClientCredentialsTable {
  workspace_id: string
  id: string
  sealed: Buffer
  public_jwk: unknown
  created_at: Generated<string>
  expires_at: string | null
  reminded_days: number | null
  accepted_at: string | null
  refused_at: string | null
}

export interface SsoConfigsTable {
  workspace_id: string
  issuer: string
  client_id: string
  token_auth_method: 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt' | null
  auto_provision: Generated<boolean>
  allowed_domains: Generated<string[]>
  trust_unverified_email: Generated<boolean>
  external_id_claim: 'sub' | 'oid' | null
  groups_claim: string | null
  enabled: Generated<boolean>
  relink_by_email_until: string | null
  enforced_at: string | null
  max_linkable_role: string | null
  metadata: unknown
  version: Generated<number>
  settings_version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface SsoSignInTestsTable {
  workspace_id: string
  id: string
  start_hash: Buffer
  challenge: string
  code_hash: Buffer | null
  confirmed_at: string | null
  settings: unknown
  sealed_secret: Buffer | null
  config_version: number | null
  base_version: number | null
  is_draft: boolean
  actor_type: string
  actor_id: string
  admin_id: string | null
  created_at: Generated<string>
  expires_at: string
  started_at: string | null
  finished_at: string | null
  passed: boolean | null
  report: unknown
  claims_sealed: Buffer | null
  subject: string | null
  member_id: string | null
  max_linkable_role: string | null
}

export interface WorkspacesTable {
  id: string
  name: string
  default_role: string
  version: Generated<number>
  created_at: Generated<string>
  updated_at: Generated<string>
}

export interface Database {
  access_changes: AccessChangesTable
  activity_entries: ActivityEntriesTable
  directories: DirectoriesTable
  directory_credentials: DirectoryCredentialsTable
  domains: DomainsTable
  exchange_codes: ExchangeCodesTable
  group_mapping_versions: GroupMappingVersionsTable
  group_mappings: GroupMappingsTable
  group_memberships: GroupMembershipsTable
  groups: GroupsTable
  guarded_removals: GuardedRemovalsTable
  identities: IdentitiesTable
  logout_tokens: LogoutTokensTable
  members: MembersTable
  recovery_codes: RecoveryCodesTable
  scim_counters: ScimCountersTable
  scim_former_users: ScimFormerUsersTable
  scim_group_memberships: ScimGroupMembershipsTable
  scim_group_subgroups: ScimGroupSubgroupsTable
  scim_groups: ScimGroupsTable
  scim_users: ScimUsersTable
  sessions: SessionsTable
  sign_in_attempts: SignInAttemptsTable
  sign_in_policies: SignInPoliciesTable
  signing_keys: SigningKeysTable
  sso_client_credentials: SsoClientCredentialsTable
  sso_configs: SsoConfigsTable
  sso_sign_in_tests: SsoSignInTestsTable
  workspaces: WorkspacesTable
}
