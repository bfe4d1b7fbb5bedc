/**
 * What the profiles of SCIM 2.0 ask of a service, a row each, and how far this one goes. `npm run conformance` writes the
 * rows into docs/conformance.md with the tests that hold them: those whose sentence begins with the id of the row, and those
 * that the row names. A row that passes and has no test fails the suite (test/conformance.test.ts).
 */
export interface Row {
  id: string
  /** Must, should or may, as the profile has it. */
  level: 'M' | 'S' | 'Y'
  asks: string
  here: 'pass' | 'deviation' | 'not offered'
  /** Why not, or what to know. */
  note?: string
  /** Names of tests in other files. */
  heldBy?: readonly string[]
}

export interface Profile {
  title: string
  rows: readonly Row[]
}

const lifeOfUser =
  'a user is created, found, replaced, changed and deleted, and each answer is the resource as it is then'
const discovery = 'discovery tells what is true, from the same table that requests are read by'
const deactivation =
  'deactivation by PATCH, PUT and DELETE ends every session before it is answered, and reactivation starts none'
const positions = 'startIndex is exact on every page, warm or cold, and after resources have gone'
const cursors = 'cursors walk a list once, whatever comes and goes, with and without a filter or an order'
const bulkResults =
  'each operation has its result: method, bulkId, location, version and status, and an error where it failed'
const dialects = 'a tolerant directory accepts and records what Entra, Okta and others send; a strict one refuses it'
const memberForms = 'operations on members become sets of ids in every form'
const groupLife = 'a group is created with members, changed by sets, replaced, renamed and deleted'
const activityLog = 'what is refused stands in the activity log with the rule that was broken, and names nobody'
const tooMuch = 'a directory that asks too much at once is told when to go on, in SCIM words'
const badTokens = 'whatever is wrong with a token, the answer is the same 401; the reason stands in the activity log'
const staticToken =
  'a directory token stands in: opaque, of 256 bits, for one directory, two live at once, ended or expired at will'

/** The profiles, in the order of the page. `strict` and `tolerant` are modes of a directory. */
export const profiles: readonly Profile[] = [
  {
    title: 'SCIM 2.0 Interoperability Profile (draft-zollner-scim-interop-profile-01), on a strict directory',
    rows: [
      {
        id: 'IP-1',
        level: 'M',
        asks: '`interopProfileConformant` in /ServiceProviderConfig is true only where all of this holds',
        here: 'pass',
        note: 'true on a strict directory, absent on a tolerant one',
      },
      {
        id: 'IP-2',
        level: 'M',
        asks: 'the three discovery endpoints, every schema named is there, `id` is `name` for resource types',
        here: 'pass',
        heldBy: [discovery],
      },
      {
        id: 'IP-3',
        level: 'M',
        asks: '/Schemas has exactly the attributes that are accepted',
        here: 'pass',
        heldBy: [discovery],
      },
      { id: 'IP-4', level: 'M', asks: 'filters and uniqueness have one case rule', here: 'pass' },
      {
        id: 'IP-5',
        level: 'M',
        asks: '`id` and `externalId` compare with case, `userName` without',
        here: 'pass',
        heldBy: ['userName and externalId follow one case rule in filters and in uniqueness'],
      },
      {
        id: 'IP-6',
        level: 'M',
        asks: 'an undeclared attribute or schema URI is 400',
        here: 'pass',
        note: 'tolerant leaves attributes out and records it, and keeps extensions that declare themselves',
      },
      {
        id: 'IP-7',
        level: 'M',
        asks: 'multi-valued attributes with a `type` declare canonical values',
        here: 'pass',
        heldBy: ['each multi-valued attribute with a type declares canonical values'],
      },
      {
        id: 'IP-8',
        level: 'M',
        asks: 'a resource has one address, by its id',
        here: 'pass',
        heldBy: ['a path of the endpoint knows its methods, with and without a slash; what is no path is a SCIM 404'],
      },
      {
        id: 'IP-9',
        level: 'M',
        asks: 'requests and answers, errors too, are application/scim+json',
        here: 'pass',
        note: 'tolerant also reads application/json; bytes that are no HTTP request belong to no endpoint',
      },
      { id: 'IP-10', level: 'M', asks: '`filter` with `eq` and `and`, on GET alone', here: 'pass' },
      {
        id: 'IP-11',
        level: 'M',
        asks: 'a filter on an attribute that the type does not have is refused',
        here: 'pass',
        heldBy: ['a filter that makes no sense is refused with the attribute and its offset'],
      },
      {
        id: 'IP-12',
        level: 'M',
        asks: 'lists page by index or cursor',
        here: 'pass',
        note: 'both',
        heldBy: [positions, cursors],
      },
      {
        id: 'IP-13',
        level: 'M',
        asks: '100 on a page where nothing is said; above the maximum a shorter page',
        here: 'pass',
      },
      {
        id: 'IP-14',
        level: 'M',
        asks: 'PATCH of every resource that can be changed',
        here: 'pass',
        heldBy: ['each operation edits each kind of target as RFC 7644 says', groupLife],
      },
      {
        id: 'IP-15',
        level: 'M',
        asks: 'an operation without a path is refused',
        here: 'pass',
        note: 'tolerant takes it',
      },
      {
        id: 'IP-16',
        level: 'M',
        asks: '`add` is `replace` on a single simple attribute',
        here: 'pass',
        heldBy: ['add and replace do the same on an attribute with one value'],
      },
      {
        id: 'IP-17',
        level: 'M',
        asks: '`replace` of a complex attribute drops what is not sent, `add` keeps it',
        here: 'pass',
        note: 'tolerant keeps it, as RFC 7644 section 3.5.2.3 has it',
        heldBy: ['strict mode replaces a complex attribute as a whole, as the interoperability profile requires'],
      },
      {
        id: 'IP-18',
        level: 'M',
        asks: 'without a filter in the path, `replace` swaps a collection and `add` appends to it',
        here: 'pass',
      },
      {
        id: 'IP-19',
        level: 'Y',
        asks: 'a path that filters may have to end in a sub-attribute',
        here: 'pass',
        note: 'it need not: whole values are changed, too',
        heldBy: ['each operation edits each kind of target as RFC 7644 says', memberForms],
      },
      {
        id: 'IP-20',
        level: 'M',
        asks: 'PATCH never deletes: an inactive user can be read and is listed',
        here: 'pass',
      },
      {
        id: 'IP-21',
        level: 'M',
        asks: 'DELETE deletes: 404 on every method, in no list',
        here: 'pass',
        heldBy: [lifeOfUser],
      },
      { id: 'IP-22', level: 'M', asks: 'what was unique is free at once', here: 'pass' },
      {
        id: 'IP-23',
        level: 'Y',
        asks: 'entity tags and conditions may be ignored',
        here: 'pass',
        note: 'they are honoured',
        heldBy: ['conditional requests: If-Match guards each change, If-None-Match saves each read'],
      },
      {
        id: 'IP-24',
        level: 'M',
        asks: 'a clash on POST or PATCH is 409, also of two at once',
        here: 'pass',
        heldBy: ['concurrent writes: one name goes to one user, one address to one member, and no change is lost'],
      },
      {
        id: 'IP-25',
        level: 'M',
        asks: 'TLS 1.3, 1.2 allowed; no Basic',
        here: 'pass',
        note: 'TLS ends at the proxy in front, and production refuses to start without an https address; Basic is 401',
        heldBy: [badTokens],
      },
    ],
  },
  {
    title: 'IPSIE Account Lifecycle SCIM 2.0 Profile (draft 00, September 2026)',
    rows: [
      {
        id: 'AL-1',
        level: 'M',
        asks: 'each request is authorised by an OAuth access token',
        here: 'deviation',
        note: staticToken,
      },
      {
        id: 'AL-2',
        level: 'M',
        asks: 'a token endpoint for clients with a signed JWT',
        here: 'not offered',
        note: 'see AL-1',
      },
      {
        id: 'AL-3',
        level: 'M',
        asks: 'Basic client authentication at that endpoint',
        here: 'not offered',
        note: 'see AL-1',
      },
      {
        id: 'AL-4',
        level: 'M',
        asks: 'the token is good for SCIM and nothing else',
        here: 'pass',
        note: 'without the name of a scope',
      },
      { id: 'AL-5', level: 'M', asks: 'authorization server metadata', here: 'not offered', note: 'see AL-1' },
      {
        id: 'AL-6',
        level: 'M',
        asks: 'the interoperability profile and RFC 7643, 7644',
        here: 'pass',
        note: 'on a strict directory: the rows above and below',
        heldBy: [discovery],
      },
      {
        id: 'AL-7',
        level: 'M',
        asks: 'what a directory owns is not changed here',
        here: 'pass',
        heldBy: [
          'a member says where they came from and who decides on what; what a directory decides is refused here',
        ],
      },
      { id: 'AL-8', level: 'M', asks: 'rate limits, 429 with Retry-After', here: 'pass', heldBy: [tooMuch] },
      {
        id: 'AL-9',
        level: 'M',
        asks: '25 requests a second for each tenant',
        here: 'pass',
        note: '50 on average by default, 500 at once; no setting goes below 25',
      },
      { id: 'AL-10', level: 'M', asks: '/Bulk', here: 'pass', heldBy: [bulkResults] },
      { id: 'AL-11', level: 'M', asks: 'one PATCH changes many attributes', here: 'pass' },
      { id: 'AL-12', level: 'M', asks: 'PATCH of `active` to false and to true', here: 'pass', heldBy: [deactivation] },
      {
        id: 'AL-13',
        level: 'M',
        asks: 'deactivation ends every means of access',
        here: 'pass',
        note: 'sessions, access tokens and open exchange codes, which are all there are',
        heldBy: [deactivation, 'an ended access ends the access token, the session and an open exchange code at once'],
      },
      {
        id: 'AL-14',
        level: 'S',
        asks: 'within five minutes',
        here: 'pass',
        note: 'before the answer, on every replica',
        heldBy: [deactivation],
      },
      { id: 'AL-15', level: 'M', asks: 'DELETE, and the same userName again', here: 'pass', heldBy: [lifeOfUser] },
      {
        id: 'AL-16',
        level: 'M',
        asks: 'GET by id; filters on userName, externalId and e-mail addresses',
        here: 'pass',
      },
      {
        id: 'AL-17',
        level: 'M',
        asks: 'users before their first sign-in; no local creation of managed people',
        here: 'deviation',
        note: 'provisioned users are linked at their first sign-in and never doubled; an admin can still invite an address',
        heldBy: ['oidc-jit-028: a member from the directory is linked, by the immutable claim before the address'],
      },
      {
        id: 'AL-18',
        level: 'M',
        asks: 'groups map to roles',
        here: 'pass',
        heldBy: ['access follows membership at once: added, removed, replaced, nested, deleted'],
      },
      { id: 'AL-19', level: 'M', asks: 'userName, displayName, active, externalId', here: 'pass', heldBy: [discovery] },
      {
        id: 'AL-20',
        level: 'M',
        asks: 'no credential in any attribute',
        here: 'pass',
        heldBy: [
          'no attribute carries a credential',
          'tolerant mode records each leniency in the entry of the change; strict mode refuses it',
        ],
      },
      {
        id: 'AL-21',
        level: 'M',
        asks: 'POST, PATCH and lists of users; 1,000 on a page at most; cursors',
        here: 'pass',
        heldBy: [cursors],
      },
      {
        id: 'AL-22',
        level: 'M',
        asks: 'groups with displayName, members, externalId; unique names; empty groups',
        here: 'pass',
        heldBy: [groupLife],
      },
      {
        id: 'AL-23',
        level: 'M',
        asks: 'filters on displayName, externalId and members of groups; excludedAttributes=members',
        here: 'pass',
        heldBy: ['filters on groups find members without reading the groups'],
      },
      { id: 'AL-24', level: 'M', asks: 'one PATCH with 50 or more members added and removed', here: 'pass' },
      {
        id: 'AL-25',
        level: 'M',
        asks: 'errors without internals; tokens expire; replay is refused',
        here: 'deviation',
        note: 'directory tokens expire where the admin says so; there is no assertion to replay',
        heldBy: ['any JSON is read or refused with a SCIM code, and a resource that was read is read again unchanged'],
      },
      {
        id: 'AL-26',
        level: 'M',
        asks: 'each change is in the audit log',
        here: 'pass',
        heldBy: [lifeOfUser, groupLife],
      },
      {
        id: 'OA-1',
        level: 'M',
        asks: '`remove members[value eq "id"]` takes one, `remove members` all',
        here: 'pass',
        heldBy: [memberForms],
      },
    ],
  },
  {
    title: 'Cursor-based pagination (RFC 9865)',
    rows: [
      {
        id: 'CU-1',
        level: 'M',
        asks: 'an empty cursor begins; values are opaque, of unreserved characters',
        here: 'pass',
      },
      {
        id: 'CU-2',
        level: 'M',
        asks: '`nextCursor` on every page but the last; nothing twice, nothing left out',
        here: 'pass',
      },
      { id: 'CU-3', level: 'Y', asks: '`previousCursor`', here: 'not offered', note: 'no provider walks back' },
      { id: 'CU-4', level: 'M', asks: 'a negative `count` is 0, which gives the total alone', here: 'pass' },
      {
        id: 'CU-5',
        level: 'S',
        asks: '`invalidCursor`, `expiredCursor`, `invalidCount`',
        here: 'pass',
        note: 'another count within the limit is served from the next page on',
      },
      { id: 'CU-6', level: 'M', asks: 'a fixed default where both are offered', here: 'pass', note: 'index' },
      { id: 'CU-7', level: 'S', asks: 'the same by POST to .search', here: 'pass', heldBy: [cursors] },
      { id: 'CU-8', level: 'S', asks: '`pagination` in /ServiceProviderConfig', here: 'pass' },
      {
        id: 'CU-9',
        level: 'M',
        asks: 'authorised again on each page; the cursor of another tenant is an invalid one',
        here: 'pass',
        heldBy: [
          cursors,
          'a token that is revoked is refused at its next request on every replica, whatever they remember',
        ],
      },
    ],
  },
  {
    title: 'Particulars of RFC 7644',
    rows: [
      {
        id: 'RB-1',
        level: 'M',
        asks: 'limits of /Bulk are published; above them 413',
        here: 'pass',
        heldBy: [
          'a request that is no bulk request is refused whole, and above the published limit with 413',
          'bodies have a limit, and what exceeds it is a SCIM 413',
        ],
      },
      {
        id: 'RB-2',
        level: 'M',
        asks: 'a result for each operation; `failOnErrors`',
        here: 'pass',
        heldBy: [bulkResults, 'failOnErrors stops the rest'],
      },
      {
        id: 'RB-3',
        level: 'M',
        asks: '`bulkId:` in paths and values; circles',
        here: 'pass',
        note: 'a circle is 409',
        heldBy: [
          'references by bulkId hold in any order, in paths and in values',
          'a circle of references is a conflict, and what stands outside of it is made',
        ],
      },
      { id: 'RB-4', level: 'M', asks: 'PATCH in bulk is a whole PatchOp', here: 'pass', heldBy: [bulkResults] },
      {
        id: 'RB-5',
        level: 'M',
        asks: 'a PATCH applies whole or not at all',
        here: 'pass',
        heldBy: ['operations see what those before them did, and a fault in one undoes all'],
      },
      {
        id: 'RB-6',
        level: 'M',
        asks: '`noTarget`; read-only attributes are `mutability` in PATCH, ignored in POST and PUT',
        here: 'pass',
        note: 'tolerant makes the value that a filter describes, which Entra ID relies on, and removes nothing where nothing is selected',
        heldBy: [
          'an invalid operation is refused with its code and pointer',
          'a removal that selects nothing: noTarget when strict, no change when tolerant, of members and of values alike',
          'null, [] and empty complex values are unassigned; read-only attributes are ignored',
        ],
      },
      {
        id: 'RB-7',
        level: 'M',
        asks: 'adding what is there changes nothing, `lastModified` neither',
        here: 'pass',
        heldBy: [
          'a change that changes nothing leaves version, time and log as they are',
          'a change of members that changes nothing leaves version, time and log as they are',
        ],
      },
      {
        id: 'RB-8',
        level: 'M',
        asks: '`startIndex` below 1 is 1, `count` below 0 is 0; `tooMany`',
        here: 'pass',
        heldBy: [positions, 'a filter that takes too long is refused with advice, and not as an error of the service'],
      },
      {
        id: 'RB-9',
        level: 'M',
        asks: '`attributes` and `excludedAttributes` everywhere; never without what is always returned',
        here: 'pass',
        heldBy: ['attributes and excludedAttributes cut every answer, but never what is always returned'],
      },
      { id: 'RB-10', level: 'S', asks: 'discovery refuses `filter` with 403', here: 'pass', heldBy: [discovery] },
      {
        id: 'RB-11',
        level: 'M',
        asks: '201 with Location; names, URIs and `op` in any case',
        here: 'pass',
        heldBy: [
          lifeOfUser,
          'names come out in canonical spelling and values exactly as sent',
          'the message is read by names in any case; an empty one changes nothing and is recorded',
        ],
      },
      {
        id: 'RB-12',
        level: 'S',
        asks: 'sensitive filters by POST',
        here: 'pass',
        note: 'both are served: no log holds the query of a URL',
        heldBy: ['search finds what a GET finds, over one type or all, and keeps the filter out of the URL'],
      },
    ],
  },
  {
    title: 'Microsoft Entra ID: gallery, provisioning service, validator',
    rows: [
      { id: 'MS-1', level: 'M', asks: '25 requests a second without a 429', here: 'pass' },
      {
        id: 'MS-2',
        level: 'M',
        asks: 'client credentials or federation in the gallery; no long-lived bearer',
        here: 'not offered',
        note: 'see AL-1: customers add it as their own application, which takes a secret token',
      },
      {
        id: 'MS-3',
        level: 'M',
        asks: 'several secrets at once, which expire and can be deleted',
        here: 'pass',
        note: 'of directory tokens',
        heldBy: ['two tokens are live at once, so that one is replaced without a gap; a third has to wait', badTokens],
      },
      { id: 'MS-4', level: 'M', asks: 'access tokens of one to six hours', here: 'not offered', note: 'see AL-1' },
      { id: 'MS-5', level: 'S', asks: 'workload identity federation', here: 'not offered', note: 'see AL-1' },
      { id: 'MS-6', level: 'M', asks: 'a filter that matches nothing is 200 with none', here: 'pass' },
      { id: 'MS-7', level: 'M', asks: 'filters on every matching attribute', here: 'pass' },
      {
        id: 'MS-8',
        level: 'M',
        asks: '/Schemas has every mapped attribute, without nulls, and a Group',
        here: 'pass',
        heldBy: ['every schema that a resource type names is in /Schemas, without nulls, and says what the table says'],
      },
      {
        id: 'MS-9',
        level: 'M',
        asks: 'disabled people can be read; delete and restore',
        here: 'pass',
        heldBy: ['somebody who comes back finds their member again: by externalId, else by address'],
      },
      {
        id: 'MS-10',
        level: 'M',
        asks: '`""` and null clear',
        here: 'pass',
        note: 'strict takes null alone',
        heldBy: ['empty text clears an attribute in tolerant mode and is a value in strict mode'],
      },
      {
        id: 'MS-11',
        level: 'M',
        asks: '`op` in any case, booleans as text, dotted keys, every form of a manager',
        here: 'pass',
        heldBy: [
          dialects,
          'a manager may be an object, a bare id, an array, or empty',
          'a value without path may have dotted, filtered and URN-qualified keys',
        ],
      },
      {
        id: 'MS-12',
        level: 'M',
        asks: 'members removed by value list and by filter; 204',
        here: 'pass',
        heldBy: [memberForms],
      },
      {
        id: 'MS-13',
        level: 'M',
        asks: "Microsoft's own group schema, `roles: []`, `meta`, nulls",
        here: 'pass',
        heldBy: [
          'what identity providers send beyond the RFC is accepted, recorded by name and pointer, and refused when strict',
        ],
      },
      {
        id: 'MS-14',
        level: 'M',
        asks: 'values are returned as sent',
        here: 'pass',
        heldBy: ['names come out in canonical spelling and values exactly as sent'],
      },
      { id: 'MS-15', level: 'M', asks: '`startIndex` comes back; pages', here: 'pass', heldBy: [positions] },
      {
        id: 'MS-16',
        level: 'M',
        asks: 'transient trouble is 429 or 5xx, never 401 or 404',
        here: 'pass',
        heldBy: [
          'while the database is away every edge says 503 and when to come back; afterwards all is well by itself',
        ],
      },
      {
        id: 'MS-17',
        level: 'M',
        asks: 'OpenID Connect: code flow, confidential client, multi-tenant authority, certificate',
        here: 'deviation',
        note: 'each workspace has its own issuer and client; private_key_jwt is offered; a multi-tenant authority is refused, because every tenant of it could issue tokens',
        heldBy: ['whatever is wrong with an issuer has its code, and the configuration before stays in force'],
      },
      {
        id: 'MS-18',
        level: 'M',
        asks: 'people are known by an immutable claim',
        here: 'pass',
        heldBy: ['oidc-jit-001, oidc-jit-007: a known subject goes in whatever the address says'],
      },
      {
        id: 'MS-19',
        level: 'S',
        asks: 'SSO by API, enforced, with a way in for emergencies',
        here: 'pass',
        heldBy: ['oidc-enf-004: an owner with a code gets at the settings for an hour, and at nothing else'],
      },
      {
        id: 'MS-20',
        level: 'M',
        asks: 'public documents',
        here: 'deviation',
        note: 'README.md, openapi.yaml and /docs; no page of pilot steps',
      },
      {
        id: 'MS-21',
        level: 'M',
        asks: 'the SCIM Validator',
        here: 'deviation',
        note: 'needs a public address; its requests are exchanges of the tests',
      },
    ],
  },
  {
    title: 'Okta: SPEC and CRUD suites, Integration Network',
    rows: [
      { id: 'OK-1', level: 'M', asks: 'the SPEC suite', here: 'pass' },
      { id: 'OK-2', level: 'M', asks: 'the CRUD suite', here: 'pass' },
      { id: 'OK-3', level: 'M', asks: 'path-less deactivation; rename with the id inside', here: 'pass' },
      { id: 'OK-4', level: 'M', asks: "the customer's own wizard: PUT alone", here: 'pass' },
      {
        id: 'OK-5',
        level: 'M',
        asks: 'a password, `groups: []` and a locale at creation, and no trace of the password',
        here: 'pass',
        heldBy: ['tolerant mode records each leniency in the entry of the change; strict mode refuses it'],
      },
      {
        id: 'OK-6',
        level: 'M',
        asks: 'filters on userName and displayName with startIndex and count; the address without `_`',
        here: 'pass',
      },
      {
        id: 'OK-7',
        level: 'M',
        asks: 'a token in a header; not Basic',
        here: 'pass',
        note: 'a bearer token; tolerant also takes it without the word Bearer, as Okta sends what is pasted for its HTTP header',
        heldBy: [badTokens],
      },
      { id: 'OK-8', level: 'M', asks: 'group push', here: 'pass' },
      { id: 'OK-9', level: 'S', asks: 'entitlements', here: 'not offered', note: 'roles come from group mappings' },
      {
        id: 'OK-10',
        level: 'M',
        asks: 'OpenID Connect: own client, no refresh token, third-party login',
        here: 'pass',
        heldBy: [
          "oidc-tpi-001: a tile in the provider's portal begins a sign-in like any other, by GET and by POST",
          'oidc-disc-011: start sends PKCE, state and nonce, whatever the provider announces',
        ],
      },
      {
        id: 'OK-11',
        level: 'M',
        asks: 'own credentials for each customer; errors for the admin who reads them',
        here: 'pass',
        heldBy: [badTokens, activityLog],
      },
    ],
  },
]
