/**
 * Every attribute of a User and a Group, once (RFC 7643 §3.1, §4.1 to §4.3): its type, its case rule, who may change
 * it, and where it is stored. Validation, filters, PATCH, projection, uniqueness and /Schemas all read this table.
 *
 * `password` is left out on purpose: this service never stores a credential, so it declares none.
 */

export const USER_SCHEMA = 'urn:ietf:params:scim:schemas:core:2.0:User'
export const GROUP_SCHEMA = 'urn:ietf:params:scim:schemas:core:2.0:Group'
export const ENTERPRISE_SCHEMA = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'

export type ResourceTypeName = 'User' | 'Group'

/** Strict refuses everything that the RFC does not allow. Tolerant accepts what identity providers send and records it. */
export type Mode = 'tolerant' | 'strict'

export interface Attribute {
  /** In canonical spelling; an extension is a complex attribute named by its URN (RFC 7643 §3.3). */
  name: string
  type: 'string' | 'boolean' | 'dateTime' | 'reference' | 'binary' | 'complex'
  description: string
  multiValued: boolean
  required: boolean
  /** One rule for filters and for uniqueness. Text that is not case-exact compares by `foldKey`. */
  caseExact: boolean
  mutability: 'readOnly' | 'readWrite' | 'immutable'
  /** `never`: clients may send it, but the service derives it and does not return it. */
  returned: 'always' | 'default' | 'never'
  uniqueness: 'none' | 'server'
  /** Suggested values, listed by /Schemas. Other values are accepted too (RFC 7643 §7). */
  canonicalValues?: readonly string[]
  referenceTypes?: readonly string[]
  subAttributes?: readonly Attribute[]
  /** The value that an unassigned attribute represents. An attribute with a default cannot be removed. */
  default?: boolean
  /** In UTF-16 code units; values that an index holds are shorter, so that they fit into one. */
  maxLength: number
  /** Text that identifies a person or a group compares by `comparisonKey`, other text by `foldKey`. */
  isIdentity?: true
  /** Inferred from a value without a schema: any JSON value is kept as sent. */
  isOpen?: boolean
  /** Where it is stored: absent means at its own JSON path in `doc`. */
  home?: Home
}

/** `key` is the column with the folded text. A `computed` attribute is made for each response and cannot be filtered. */
export type Home =
  | {
      column: 'id' | 'user_name' | 'display_name' | 'external_id' | 'active' | 'created_at' | 'updated_at'
      key?: string
    }
  | { relation: 'members' | 'groups' }
  | { constant: 'resourceType' }
  | { computed: true }

export interface ResourceType {
  name: ResourceTypeName
  description: string
  endpoint: string
  schema: string
  /** Attributes every resource has (RFC 7643 §3.1); of these /Schemas lists `externalId` alone. */
  common: readonly Attribute[]
  attributes: readonly Attribute[]
  extensions: readonly Attribute[]
}

/** An attribute found by name, with its parent attributes and the JSON path to it. */
export interface AttributePath {
  attribute: Attribute
  parents: readonly Attribute[]
  names: readonly string[]
}

export const MAX_STRING_LENGTH = 8192
const MAX_INDEXED_LENGTH = 512
const MAX_BINARY_LENGTH = 65_536

type Rest = Partial<Omit<Attribute, 'name' | 'type' | 'description'>>

function simple(type: Exclude<Attribute['type'], 'complex'>, name: string, description: string, rest: Rest): Attribute {
  return {
    name,
    type,
    description,
    multiValued: false,
    required: false,
    // References and binary values are always compared exactly (RFC 7643 §2.3.6, §2.3.7).
    caseExact: type === 'reference' || type === 'binary',
    mutability: 'readWrite',
    returned: 'default',
    uniqueness: 'none',
    maxLength: MAX_STRING_LENGTH,
    ...rest,
  }
}

const text = (name: string, description: string, rest: Rest = {}): Attribute =>
  simple('string', name, description, rest)

const boolean = (name: string, description: string, rest: Rest = {}): Attribute =>
  simple('boolean', name, description, rest)

const reference = (name: string, description: string, referenceTypes: readonly string[], rest: Rest = {}): Attribute =>
  simple('reference', name, description, { referenceTypes, ...rest })

function complex(name: string, description: string, subAttributes: readonly Attribute[], rest: Rest = {}): Attribute {
  return { ...simple('string', name, description, rest), type: 'complex', subAttributes }
}

/** The usual sub-attributes of a multi-valued attribute (RFC 7643 §2.4). */
function plural(name: string, description: string, types: readonly string[], value: Attribute): Attribute {
  const subAttributes = [value, text('display', 'A name for people to read.'), ...kind(types)]
  return complex(name, description, subAttributes, { multiValued: true })
}

// The drafts of the interoperability profile want canonical values wherever there is a `type`.
const kind = (types: readonly string[]): Attribute[] => [
  text('type', 'What the value is used for.', { canonicalValues: types }),
  boolean('primary', 'Whether this is the preferred value. At most one value of an attribute is.'),
]

const readOnly = { mutability: 'readOnly' } as const
const immutable = { mutability: 'immutable' } as const

const common: readonly Attribute[] = [
  reference('schemas', 'URIs of the schemas whose attributes the resource has.', ['uri'], {
    multiValued: true,
    caseExact: false,
    returned: 'always',
  }),
  text('id', 'Identifier given by this service. Never changes and is never used again.', {
    ...readOnly,
    caseExact: true,
    returned: 'always',
    uniqueness: 'server',
    home: { column: 'id' },
  }),
  text('externalId', 'Identifier that the directory gave the resource.', {
    caseExact: true,
    maxLength: MAX_INDEXED_LENGTH,
    home: { column: 'external_id' },
  }),
  complex(
    'meta',
    'What this service knows about the resource.',
    [
      text('resourceType', 'User or Group.', { ...readOnly, caseExact: true, home: { constant: 'resourceType' } }),
      simple('dateTime', 'created', 'When the resource was made.', { ...readOnly, home: { column: 'created_at' } }),
      simple('dateTime', 'lastModified', 'When the resource last changed.', {
        ...readOnly,
        home: { column: 'updated_at' },
      }),
      reference('location', 'URL of the resource.', ['uri'], { ...readOnly, home: { computed: true } }),
      text('version', 'Entity tag of the resource.', { ...readOnly, caseExact: true, home: { computed: true } }),
    ],
    readOnly,
  ),
]

const user: readonly Attribute[] = [
  text('userName', 'Name the person is known by in the directory, unique in it.', {
    required: true,
    isIdentity: true,
    uniqueness: 'server',
    maxLength: MAX_INDEXED_LENGTH,
    home: { column: 'user_name', key: 'user_name_key' },
  }),
  complex('name', 'Parts of the name of the person.', [
    text('formatted', 'The whole name, ready to show.'),
    text('familyName', 'Family name.'),
    text('givenName', 'Given name.'),
    text('middleName', 'Middle names.'),
    text('honorificPrefix', 'Title before the name.'),
    text('honorificSuffix', 'Suffix after the name.'),
  ]),
  text('displayName', 'Name to show for the person.'),
  text('nickName', 'Casual name.'),
  reference('profileUrl', 'Page about the person.', ['external']),
  text('title', 'Job title.'),
  text('userType', 'Relation to the organization, such as employee or contractor.'),
  text('preferredLanguage', 'Preferred language, as in an Accept-Language header.'),
  text('locale', 'Locale for formats, such as en-US.'),
  text('timezone', 'IANA time zone name.'),
  boolean('active', 'Whether the person may use the workspace. False ends all access at once.', {
    default: true,
    home: { column: 'active' },
  }),
  plural(
    'emails',
    'E-mail addresses.',
    ['work', 'home', 'other'],
    text('value', 'The address.', { isIdentity: true, maxLength: MAX_INDEXED_LENGTH }),
  ),
  plural(
    'phoneNumbers',
    'Telephone numbers.',
    ['work', 'home', 'mobile', 'fax', 'pager', 'other'],
    text('value', 'The number.'),
  ),
  plural(
    'ims',
    'Instant messaging addresses.',
    ['aim', 'gtalk', 'icq', 'xmpp', 'msn', 'skype', 'qq', 'yahoo'],
    text('value', 'The address.'),
  ),
  plural(
    'photos',
    'Pictures of the person.',
    ['photo', 'thumbnail'],
    reference('value', 'URL of the picture.', ['external'], { maxLength: MAX_BINARY_LENGTH }),
  ),
  complex(
    'addresses',
    'Postal addresses.',
    [
      text('formatted', 'The whole address, ready to print.'),
      text('streetAddress', 'Street, house number and the like.'),
      text('locality', 'City.'),
      text('region', 'State or region.'),
      text('postalCode', 'Postal code.'),
      text('country', 'Country, as ISO 3166-1 alpha-2 code.'),
      ...kind(['work', 'home', 'other']),
    ],
    { multiValued: true },
  ),
  complex(
    'groups',
    'Groups that the person is in. Changed through the groups.',
    [
      text('value', 'id of the group.', { ...readOnly, caseExact: true }),
      reference('$ref', 'URL of the group.', ['Group'], { ...readOnly, home: { computed: true } }),
      text('display', 'Name of the group.', readOnly),
      text('type', 'How the person is in the group.', { ...readOnly, canonicalValues: ['direct', 'indirect'] }),
    ],
    { ...readOnly, multiValued: true, home: { relation: 'groups' } },
  ),
  plural('entitlements', 'Things the person is entitled to.', ['work', 'other'], text('value', 'The entitlement.')),
  plural('roles', 'Roles of the person in the organization.', ['work', 'other'], text('value', 'The role.')),
  plural(
    'x509Certificates',
    'Certificates of the person.',
    ['work', 'other'],
    simple('binary', 'value', 'DER certificate in base64.', { maxLength: MAX_BINARY_LENGTH }),
  ),
]

const enterprise = complex(ENTERPRISE_SCHEMA, 'Enterprise user.', [
  text('employeeNumber', 'Number of the person in the organization.'),
  text('costCenter', 'Cost center.'),
  text('organization', 'Organization.'),
  text('division', 'Division.'),
  text('department', 'Department.'),
  complex('manager', 'Manager of the person.', [
    text('value', 'id of the manager.', { caseExact: true }),
    reference('$ref', 'URL of the manager.', ['User']),
    text('displayName', 'Name of the manager.', readOnly),
  ]),
])

const group: readonly Attribute[] = [
  text('displayName', 'Name of the group, unique in the directory.', {
    required: true,
    isIdentity: true,
    uniqueness: 'server',
    maxLength: MAX_INDEXED_LENGTH,
    home: { column: 'display_name', key: 'display_name_key' },
  }),
  complex(
    'members',
    'People and groups in the group.',
    [
      text('value', 'id of the member.', { ...immutable, caseExact: true, maxLength: MAX_INDEXED_LENGTH }),
      reference('$ref', 'URL of the member.', ['User', 'Group'], { ...immutable, home: { computed: true } }),
      text('type', 'Whether the member is a person or a group.', { ...immutable, canonicalValues: ['User', 'Group'] }),
      text('display', 'Name of the member.', {
        ...readOnly,
        returned: 'never',
        home: { computed: true },
      }),
    ],
    { multiValued: true, home: { relation: 'members' } },
  ),
]

export const resourceTypes: Readonly<Record<ResourceTypeName, ResourceType>> = {
  User: {
    name: 'User',
    description: 'A person',
    endpoint: '/Users',
    schema: USER_SCHEMA,
    common,
    attributes: user,
    extensions: [enterprise],
  },
  Group: {
    name: 'Group',
    description: 'A group of people and groups',
    endpoint: '/Groups',
    schema: GROUP_SCHEMA,
    common,
    attributes: group,
    extensions: [],
  },
}

/**
 * Finds an attribute by its name in a filter, a path or a projection: `userName`, `name.givenName`, each also behind its
 * schema URN and a colon, or the URN of an extension alone. Names compare without case (RFC 7643 §2.1, RFC 7644 §3.10).
 */
export function findAttribute(type: ResourceTypeName, name: string): AttributePath | undefined {
  return paths[type].get(name) ?? paths[type].get(name.toLowerCase())
}

/** Finds an attribute of an extension by its name without the URN, as Entra ID sends `manager`. */
export function findUnqualified(type: ResourceTypeName, name: string): AttributePath | undefined {
  const found = resourceTypes[type].extensions.map(extension => findAttribute(type, `${extension.name}:${name}`))
  return found.find(path => path !== undefined)
}

/** Finds a sub-attribute by its name, without case. */
export function findSubAttribute(attribute: Attribute, name: string): Attribute | undefined {
  const exact = attribute.subAttributes?.find(sub => sub.name === name)
  if (exact !== undefined) return exact
  const wanted = name.toLowerCase()
  return attribute.subAttributes?.find(sub => sub.name.toLowerCase() === wanted)
}

/** The attribute that a comparison reads: for a complex one its `value`, as in `emails co "x"` (RFC 7644 §3.4.2.2). */
export function comparedAttribute(attribute: Attribute): Attribute | undefined {
  return attribute.type === 'complex' ? findSubAttribute(attribute, 'value') : attribute
}

/**
 * Folds text that is not case-exact for comparison: Unicode lower case, independent of the locale, with both small sigmas as
 * one so that folding a substring gives a substring of the folded text. ß stays ß, and İ becomes i with a dot above. Only
 * this function makes the keys that columns store, never SQL.
 */
export function foldKey(value: string): string {
  return value.toLowerCase().replaceAll('ς', 'σ')
}

/**
 * The comparison key of userName, group names and e-mail addresses, after the PRECIS profiles UsernameCaseMapped (RFC 8265
 * §3.3) and Nickname (RFC 8266): compatibility forms such as fullwidth letters, composed and decomposed forms, letter case,
 * surrounding blanks, and control and invisible characters make no difference. The stored text stays as sent.
 */
export function comparisonKey(value: string): string {
  return comparisonFragment(value).trim()
}

/** As `comparisonKey`, for a part of a text: blanks at its ends belong to it. */
export function comparisonFragment(value: string): string {
  if (/^[ -~]*$/.test(value)) return value.toLowerCase()
  const visible = value
    .normalize('NFKC')
    .replaceAll(invisible, '')
    .replaceAll(/\p{Zs}/gu, ' ')
  return foldKey(visible).normalize('NFKC')
}

const invisible = /[\p{Cc}\p{Default_Ignorable_Code_Point}]/gu

/** Reports whether a name has characters that PRECIS disallows because they cannot be seen (RFC 8264 §9). */
export function hasInvisible(value: string): boolean {
  return value.search(invisible) >= 0
}

/** The form in which a text compares, by the rule of its attribute; `part` for a part of a text. */
export function comparable({ caseExact, isIdentity }: Attribute, value: string, part?: 'part'): string {
  if (caseExact) return value
  if (isIdentity === undefined) return foldKey(value)
  return part === undefined ? comparisonKey(value) : comparisonFragment(value)
}

/** Reports whether Postgres can store the text: no NUL, no unpaired surrogate. Other text matches nothing. */
export function isStorable(value: string): boolean {
  return !value.includes('\0') && value.isWellFormed()
}

const paths: Record<ResourceTypeName, Map<string, AttributePath>> = {
  User: indexPaths(resourceTypes.User),
  Group: indexPaths(resourceTypes.Group),
}

function indexPaths(type: ResourceType): Map<string, AttributePath> {
  const index = new Map<string, AttributePath>()
  for (const attribute of [...type.common, ...type.attributes]) {
    addPaths(index, '', attribute)
    addPaths(index, `${type.schema}:`, attribute)
  }
  for (const extension of type.extensions) {
    index.set(extension.name.toLowerCase(), { attribute: extension, parents: [], names: [extension.name] })
    for (const attribute of extension.subAttributes ?? []) {
      addPaths(index, `${extension.name}:`, attribute, [extension])
    }
  }
  return index
}

function addPaths(
  index: Map<string, AttributePath>,
  prefix: string,
  attribute: Attribute,
  parents: readonly Attribute[] = [],
): void {
  const names = [...parents, attribute].map(step => step.name)
  const name = prefix + attribute.name
  index.set(name.toLowerCase(), { attribute, parents, names })
  for (const sub of attribute.subAttributes ?? []) {
    index.set(`${name}.${sub.name}`.toLowerCase(), {
      attribute: sub,
      parents: [...parents, attribute],
      names: [...names, sub.name],
    })
  }
}
