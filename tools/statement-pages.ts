// Writes docs/sql from the named statements of the service: `npm run docs`. A test compares the pages.
import { join } from 'node:path'
import { format } from 'sql-formatter'
import { buildApp } from '../src/app.ts'
import { statementNames, statementParameters } from '../src/db/prepared.ts'

export const folder = join(import.meta.dirname, '../docs/sql')

interface Purpose {
  /** What the statement does. */
  does: string
  /** The operation that sends it. */
  operation: string
  /** Round trips to Postgres of that operation, in the ordinary case. Tests count them. */
  roundTrips: number
}

const scim = (does: string, operation: string, roundTrips = 1): Purpose => ({ does, operation, roundTrips })

/** The purpose of each statement. A name with the suffix `_nested` is the variant for directories with nested groups. */
const purposes: Record<string, Purpose> = {
  claimed_groups_find: {
    does: 'Reads the groups that the last sign-in of a member claimed, and whether a directory provides the member.',
    operation: 'callback of a sign-in with a groups claim',
    roundTrips: 3,
  },
  exchange_code_redeem: {
    does: 'Redeems an exchange code, gives its session a token and ends the session that it replaces.',
    operation: 'POST /v1/sessions',
    roundTrips: 1,
  },
  linking_facts: {
    does: 'Reads the input of the linking rules as one JSON value, without locks.',
    operation: 'callback of a first sign-in',
    roundTrips: 4,
  },
  linking_lock: {
    does: 'Locks the members that the claims of a first sign-in point to.',
    operation: 'callback of a first sign-in that needs a transaction',
    roundTrips: 12,
  },
  scim_credential_check: scim(
    'Checks that a cached directory token is still valid.',
    'any SCIM request that reads no rows',
  ),
  scim_credential_find: scim(
    'Finds a directory token by its hash, with the settings of the directory that a request needs.',
    'the first SCIM request with a token in each cache period',
    2,
  ),
  scim_group_add_member: scim('Adds one user to a group.', 'PATCH /Groups/{id} with one member to add'),
  scim_group_remove_member: scim('Removes one user from a group.', 'PATCH /Groups/{id} with one member to remove'),
  scim_group_change: scim('Changes the memberships of a group by two sets of ids.', 'PATCH /Groups/{id}'),
  scim_group_change_checked: scim(
    'Changes memberships and reports ids that are neither users nor groups.',
    'PATCH /Groups/{id} when the request states member types or a check failed before',
  ),
  scim_group_create: scim('Creates a group with its memberships.', 'POST /Groups'),
  scim_group_create_checked: scim('Creates a group and reports ids that do not exist.', 'POST /Groups, checked'),
  scim_group_replace: scim('Replaces a group and the difference of its memberships.', 'PUT /Groups/{id}'),
  scim_group_replace_checked: scim('Replaces a group and reports ids that do not exist.', 'PUT /Groups/{id}, checked'),
  scim_group_delete: scim('Deletes a group with its memberships.', 'DELETE /Groups/{id}'),
  scim_group_get: scim('Reads a group, with its members if wanted.', 'GET /Groups/{id}'),
  scim_group_next: scim('Reads the page of groups after an id.', 'GET /Groups with a cursor'),
  scim_group_page: scim('Reads a page of groups by position.', 'GET /Groups'),
  scim_group_by_display_name: scim(
    'Finds groups by displayName, counted and paged.',
    'GET /Groups?filter=displayName eq',
  ),
  scim_group_by_external_id: scim('Finds groups by externalId, counted and paged.', 'GET /Groups?filter=externalId eq'),
  scim_group_of_display_name: scim('Finds the one group with a displayName.', 'GET /Groups?filter=displayName eq'),
  scim_group_of_external_id: scim('Finds the one group with an externalId.', 'GET /Groups?filter=externalId eq'),
  scim_user_by_email: scim('Finds users by e-mail address, counted and paged.', 'GET /Users?filter=emails.value eq'),
  scim_user_by_external_id: scim('Finds users by externalId, counted and paged.', 'GET /Users?filter=externalId eq'),
  scim_user_by_user_name: scim('Finds users by userName, counted and paged.', 'GET /Users?filter=userName eq'),
  scim_user_of_email: scim('Finds the one user with an e-mail address.', 'GET /Users?filter=emails.value eq'),
  scim_user_of_external_id: scim('Finds the one user with an externalId.', 'GET /Users?filter=externalId eq'),
  scim_user_of_user_name: scim('Finds the one user with a userName.', 'GET /Users?filter=userName eq'),
  scim_user_create_new: scim('Creates a user whose address no member and no former user has.', 'POST /Users'),
  scim_user_create: scim(
    'Creates a user and decides which member follows it.',
    'POST /Users when the first statement did not apply',
    2,
  ),
  scim_user_deactivate: scim(
    'Sets active to false, ends the member’s access and sessions.',
    'PATCH /Users/{id} active false',
    2,
  ),
  scim_user_reactivate: scim('Sets active to true and restores access.', 'PATCH /Users/{id} active true', 2),
  scim_user_document: scim('Stores a changed document without changing other columns.', 'PATCH or PUT /Users/{id}', 2),
  scim_user_save: scim(
    'Stores any change of a user and its effects on the member.',
    'PATCH or PUT /Users/{id}, general case',
    2,
  ),
  scim_user_delete: scim('Deletes a user, its memberships and the member’s access.', 'DELETE /Users/{id}'),
  scim_user_get: scim('Reads a user.', 'GET /Users/{id}'),
  scim_user_lock: scim('Reads a user for a change.', 'PATCH or PUT /Users/{id}', 2),
  scim_user_next: scim('Reads the page of users after an id.', 'GET /Users with a cursor'),
  scim_user_page: scim('Reads a page of users by position.', 'GET /Users'),
  session_by_id: {
    does: 'Checks the session of an access token of this service.',
    operation: 'any request with such a token',
    roundTrips: 1,
  },
  session_by_token: { does: 'Checks a session by its token.', operation: 'any request with a session', roundTrips: 1 },
  session_provider_logout: {
    does: 'Records a logout token and ends the sessions that it names.',
    operation: 'POST /sso/{workspaceId}/backchannel-logout',
    roundTrips: 2,
  },
  sign_in_attempt_insert: {
    does: 'Stores a started sign-in, within the limit of open attempts per network.',
    operation: 'GET /sso/{workspaceId}/start',
    roundTrips: 2,
  },
  sign_in_attempt_take: {
    does: 'Takes a started sign-in once and reads the configuration as it is now.',
    operation: 'GET /sso/{workspaceId}/callback',
    roundTrips: 2,
  },
  sign_in_attempt_outcome: {
    does: 'Reads how the first delivery of a callback ended.',
    operation: 'a second delivery of the same callback',
    roundTrips: 2,
  },
  sign_in_start_session: {
    does: 'Creates the session of a linked member, with its exchange code and entry.',
    operation: 'callback of a linked member',
    roundTrips: 2,
  },
  sign_in_link: {
    does: 'Links an existing member and creates the session, if the input of the linking rules is unchanged.',
    operation: 'callback of a first sign-in',
    roundTrips: 4,
  },
  sign_in_provision: {
    does: 'Creates a member with identity and session, if the input of the linking rules is unchanged.',
    operation: 'callback of a first sign-in',
    roundTrips: 4,
  },
  sign_in_refuse: {
    does: 'Records a refused sign-in and ends its attempt.',
    operation: 'callback that is refused',
    roundTrips: 2,
  },
  sign_in_options: {
    does: 'Finds the workspace that proved an e-mail domain.',
    operation: 'POST /v1/sign-in-options',
    roundTrips: 1,
  },
  sso_config_find: {
    does: 'Reads the SSO configuration with its sealed credentials, domains and policy.',
    operation: 'GET /sso/{workspaceId}/start',
    roundTrips: 2,
  },
  sso_enforcement_blocked: {
    does: 'Records, at most once an hour, that an access token was refused because SSO is enforced.',
    operation: 'admin request in an enforced workspace',
    roundTrips: 2,
  },
  workspace_gate: {
    does: 'Reads whether a workspace exists and enforces SSO.',
    operation: 'any admin request',
    roundTrips: 2,
  },
}

/** Loading the service registers its statements. */
if (typeof buildApp !== 'function') throw new Error('src/app.ts does not export buildApp.')

/** Returns the pages of docs/sql by file name: one per statement, and the table of contents. */
export function statementPages(): Map<string, string> {
  const statements = [...statementNames].map(([text, name]) => ({ name, text })).toSorted(byName)
  const pages = statements.map(({ name, text }) => [`${name}.sql`, statementPage(name, text)] as const)
  const rows = statements.map(({ name }) => {
    const { does, operation, roundTrips } = purposeOf(name)
    return `| [${name}](${name}.sql) | ${does} | ${operation} | ${roundTrips} |`
  })
  const contents = `# Named statements

Every hot operation sends one of these statements by name (docs/decisions/0004). \`npm run docs\` writes the files from the code, and a
test compares them, so that a review shows each change of SQL. A name with the suffix \`_nested\` is the variant for directories with
nested groups.

| statement | what it does | operation | round trips |
| --- | --- | --- | --- |
${rows.join('\n')}
`
  return new Map([['README.md', contents], ...pages])
}

function statementPage(name: string, text: string): string {
  const parameters = statementParameters.get(name) ?? []
  const list = parameters.map((parameter, index) => `--   $${index + 1} ${parameter}`)
  const sql = format(text, { language: 'postgresql', keywordCase: 'upper', expressionWidth: 100 })
  return [`-- ${name}: ${purposeOf(name).does}`, ...list, `${sql};`, ''].join('\n')
}

/** @throws {Error} for a statement without a purpose */
function purposeOf(name: string): Purpose {
  const purpose = purposes[name] ?? purposes[name.replace(/_nested$/, '')]
  if (purpose === undefined)
    throw new Error(`The statement ${name} has no purpose. Add it in tools/statement-pages.ts.`)
  return purpose
}

function byName(left: { name: string }, right: { name: string }): number {
  return left.name < right.name ? -1 : 1
}
