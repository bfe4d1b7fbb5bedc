import { sql } from 'kysely'
import type { RawBuilder, SqlBool } from 'kysely'
import {
  comparable,
  comparedAttribute,
  comparisonKey,
  findAttribute,
  findSubAttribute,
  isStorable,
} from '../protocol/attributes.ts'
import type { Attribute, AttributePath, Mode, ResourceTypeName } from '../protocol/attributes.ts'
import { filterFault, findFiltered, isSubstring, readComparand } from '../protocol/comparison.ts'
import type { Comparand, FilterReading } from '../protocol/comparison.ts'
import type { Comparison, Filter, Operator, Presence, ValueFilter } from '../protocol/filter.ts'
import type { Leniency } from '../protocol/reading.ts'

/**
 * Filters as SQL conditions, by the rules of `comparison.ts`. Names come from the attribute table, everything that a
 * client sent is a parameter.
 *
 * Columns and their folded keys serve what indexes hold. All else is evaluated over `doc`, where both sides are folded
 * by SQL's lower() and with both small sigmas as one: for letters outside ASCII that takes a database whose locale knows
 * them: that of any language does, and `C.UTF-8`; plain `C` does not.
 *
 * A condition may be null where it means false, so that an index can serve it; under `not` null becomes false first.
 */

export interface FilterSqlOptions {
  /** `User`: the rows are `scim_users as u`; `Group`: `scim_groups as g`. */
  type: ResourceTypeName
  mode: Mode
  /** The directory that is searched: memberships are looked up inside it. */
  workspaceId: string
  directoryId: string
}

type Condition = RawBuilder<SqlBool>
type Text = RawBuilder<string>

/**
 * The condition that rows of a directory must meet. It does not restrict to the directory: the caller's statement does.
 * @throws {AppError} `scim_invalid_filter` for attributes that the type lacks (each type its own), and for operators
 * and values that do not fit
 */
export function filterToSql(
  filter: Filter,
  options: FilterSqlOptions,
): { condition: Condition; leniencies: Leniency[] } {
  const reading: FilterReading = { mode: options.mode, leniencies: [] }
  return { condition: compile(filter, resourceScope(options, reading)), leniencies: reading.leniencies }
}

/**
 * What to order by for `sortBy` (RFC 7644 §3.4.2.3): folded unless case-exact; of several values the primary one, else
 * the first. Null where unassigned. Undefined for attributes that the type lacks, and for those that are no order. Of text
 * the beginning decides, so that it fits into a cursor.
 */
export function sortKey(type: ResourceTypeName, sortBy: string): RawBuilder<unknown> | undefined {
  const path = findAttribute(type, sortBy)
  const attribute = path && comparedAttribute(path.attribute)
  if (path === undefined || attribute === undefined || attribute.type === 'complex') return undefined
  const many = manyValues(path, type)
  if (many === undefined) {
    const operand = singleOperand(comparedPath(path), type)
    return operand && (operand.column?.value ?? beginning(foldedText(operand)))
  }
  if (many.relation !== undefined || many.attribute.type !== 'complex') return undefined
  const value = beginning(foldedText(many.find(attribute)))
  const isPrimary = sql`(entry.value ->> 'primary' = 'true')`
  return sql`(select ${value} from ${many.source} order by ${isPrimary} desc nulls last, entry.position limit 1)`
}

function beginning(text: Text): Text {
  return sql`left(${text}, ${sql.lit(MAX_SORTED_LENGTH)})`
}

const MAX_SORTED_LENGTH = 256

/** One value in SQL: its text, and the column with its folded form where there is one. */
interface Operand {
  attribute: Attribute
  text: Text
  key?: Text
  /** Set where the value is a column of another type than text, which indexes serve as it is. */
  column?: { type: 'uuid' | 'timestamptz' | 'boolean'; value: RawBuilder<unknown> }
}

/** Several values in SQL: what to select from, and the operand of each of their sub-attributes. */
interface Many {
  attribute: Attribute
  source: RawBuilder<unknown>
  find: (sub: Attribute) => Operand
  relation?: 'members' | 'groups'
}

type Found = { one: Operand } | { many: Many; compared: Attribute }

interface Scope {
  find: (expression: Comparison | Presence | ValueFilter) => Found
  reading: FilterReading
  options: FilterSqlOptions
}

function compile(filter: Filter, scope: Scope): Condition {
  switch (filter.kind) {
    case 'and':
      return sql`(${sql.join(
        filter.operands.map(operand => compile(operand, scope)),
        sql` and `,
      )})`
    case 'or':
      return sql`(${sql.join(
        filter.operands.map(operand => compile(operand, scope)),
        sql` or `,
      )})`
    case 'not':
      return sql`(not coalesce(${compile(filter.operand, scope)}, false))`
    case 'values':
      return compileValueFilter(filter, scope)
    case 'present': {
      const found = scope.find(filter)
      return 'one' in found ? isPresent(found.one) : anyPresent(found)
    }
    case 'compare': {
      const found = scope.find(filter)
      return 'one' in found ? compareOne(filter, found.one, scope) : compareMany(filter, found, scope)
    }
  }
}

// ---- one value

function compareOne(filter: Comparison, operand: Operand, { reading }: Scope): Condition {
  const comparand = readComparand(operand.attribute, filter, reading)
  return test(filter.operator, operand, comparand)
}

function test(operator: Operator, operand: Operand, comparand: Comparand): Condition {
  switch (comparand.kind) {
    case 'absent':
      return operator === 'eq' ? sql`(not coalesce(${isPresent(operand)}, false))` : isPresent(operand)
    case 'unstorable':
      return operator === 'ne' ? sql`true` : sql`false`
    case 'boolean':
      return operand.column
        ? compareValues(operator, operand.column.value, sql`${comparand.value}::boolean`)
        : compareValues(operator, operand.text, sql`${String(comparand.value)}::text`)
    case 'instant':
      return compareValues(
        operator,
        operand.column?.value ?? operand.text,
        sql`${comparand.value.toISOString()}::timestamptz`,
      )
    case 'text':
      return operand.column?.type === 'uuid' && (operator === 'eq' || operator === 'ne')
        ? compareId(operator, operand.column.value, comparand.value)
        : testText(operator, operand, comparand.value)
  }
}

function compareId(operator: 'eq' | 'ne', column: RawBuilder<unknown>, id: string): Condition {
  // Text that is no id of ours names nothing, and Postgres would refuse to read it as one.
  if (!isId(id)) return operator === 'ne' ? sql`true` : sql`false`
  return compareValues(operator, column, sql`${id}::uuid`)
}

/** Whether text is an id in the one spelling that this service gives out; ids compare with case. */
function isId(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}

function testText(operator: Operator, operand: Operand, value: string): Condition {
  const left = foldedText(operand)
  const right = foldedParameter(
    operand,
    comparable(operand.attribute, value, isSubstring(operator) ? 'part' : undefined),
  )
  switch (operator) {
    case 'co':
      return sql`(strpos(${left}, ${right}) > 0)`
    case 'sw':
      return sql`starts_with(${left}, ${right})`
    case 'ew':
      return sql`(right(${left}, length(${right})) = ${right})`
    case 'eq':
    case 'ne':
      return compareValues(operator, left, right)
    // Code point order, whatever the locale of the database.
    case 'gt':
    case 'ge':
    case 'lt':
    case 'le':
      return compareValues(operator, sql`${left} collate "C"`, right)
  }
}

function foldedText({ attribute, text, key }: Operand): Text {
  if (key !== undefined) return key
  if (attribute.isIdentity) return comparisonKeySql(text)
  return attribute.caseExact ? text : folded(text)
}

/** `value` is in comparable form; SQL folds it again because its lower() may know other letters. */
function foldedParameter({ attribute, key }: Operand, value: string): Text {
  const text = sql<string>`${value}::text`
  return key !== undefined || attribute.isIdentity || attribute.caseExact ? text : folded(text)
}

/** In SQL as `foldKey` in the process: lower case, with both small sigmas as one. */
function folded(text: Text): Text {
  return sql`translate(lower(${text}), 'ς', 'σ')`
}

/** In SQL as `comparisonKey` in the process, for addresses inside documents that an index has found. */
export function comparisonKeySql(text: Text): Text {
  const visible = sql`regexp_replace(regexp_replace(normalize(${text}, NFKC), ${sql.lit(INVISIBLE)}, '', 'g'), ${sql.lit(BLANKS)}, ' ', 'g')`
  return sql`btrim(normalize(${folded(sql`${visible}`)}, NFKC))`
}

/** Control characters and Default_Ignorable_Code_Point of Unicode, and blanks (Zs), as Postgres writes them. */
const INVISIBLE =
  '[\\u0001-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e' +
  '\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]'
const BLANKS = '[\\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000]'

function compareValues(operator: Operator, left: RawBuilder<unknown>, right: RawBuilder<unknown>): Condition {
  switch (operator) {
    case 'eq':
      return sql`(${left} = ${right})`
    case 'ne':
      return sql`(${left} is distinct from ${right})`
    case 'gt':
      return sql`(${left} > ${right})`
    case 'ge':
      return sql`(${left} >= ${right})`
    case 'lt':
      return sql`(${left} < ${right})`
    case 'le':
      return sql`(${left} <= ${right})`
    case 'co':
    case 'sw':
    case 'ew':
      throw new TypeError(`${operator} compares text alone.`)
  }
}

function isPresent({ text, column }: Operand): Condition {
  return column ? sql`(${column.value} is not null)` : sql`(${text} <> '')`
}

// ---- several values

function compareMany(filter: Comparison, found: { many: Many; compared: Attribute }, scope: Scope): Condition {
  const { many, compared } = found
  const { operator } = filter
  const comparand = readComparand(compared, filter, scope.reading)
  if (comparand.kind === 'absent') {
    return operator === 'eq' ? sql`(not ${anyPresent(found)})` : anyPresent(found)
  }
  const indexed =
    operator === 'eq' && comparand.kind === 'text'
      ? indexedEqual(many, { compared, value: comparand.value, scope })
      : undefined
  if (indexed !== undefined) return indexed
  const operand = many.find(compared)
  if (operator !== 'ne') return exists(many, test(operator, operand, comparand))
  // Some value differs, or there is none at all.
  const differs = sql<SqlBool>`(${operand.text} is not null and ${test('ne', operand, comparand)})`
  return sql`(${exists(many, differs)} or not ${exists(many, sql`${operand.text} is not null`)})`
}

function compileValueFilter(filter: ValueFilter, scope: Scope): Condition {
  const found = scope.find(filter)
  if ('one' in found || found.many.attribute.type !== 'complex') {
    throw filterFault(filter, `${filter.attribute} has no sub-attributes for a filter in brackets`)
  }
  const { many } = found
  const inner = compile(filter.filter, entryScope(many, scope))
  const comparison = requiredEquality(filter.filter, many.attribute)
  const compared = comparedAttribute(many.attribute)
  const indexed = comparison && compared ? indexedEqual(many, { compared, value: comparison.value, scope }) : undefined
  if (indexed === undefined) return exists(many, inner)
  return comparison?.alone ? indexed : sql`(${indexed} and ${exists(many, inner)})`
}

/** The text that `value` must equal for a filter in brackets to hold, if it names one. */
function requiredEquality(filter: Filter, attribute: Attribute): { value: string; alone: boolean } | undefined {
  if (filter.kind === 'compare') {
    const isValue = findSubAttribute(attribute, filter.attribute)?.name === 'value'
    const { operator, value } = filter
    return isValue && operator === 'eq' && typeof value === 'string' ? { value, alone: true } : undefined
  }
  if (filter.kind !== 'and') return undefined
  const [required] = filter.operands
    .map(operand => requiredEquality(operand, attribute))
    .filter(found => found !== undefined)
  return required && { value: required.value, alone: false }
}

/**
 * The condition for "some value equals this" that an index serves; undefined where none does.
 */
function indexedEqual(
  { attribute, relation }: Many,
  { compared, value, scope }: { compared: Attribute; value: string; scope: Scope },
): Condition | undefined {
  if (compared.name !== 'value') return undefined
  if (relation !== undefined) return hasMembership(relation, value, scope.options)
  if (attribute.name !== 'emails' || !isStorable(value)) return undefined
  return sql`(u.email_keys @> array[${comparisonKey(value)}]::text[])`
}

// An uncorrelated IN becomes a semi-join that starts at the membership index, whatever the size of the groups.
function hasMembership(relation: 'members' | 'groups', id: string, options: FilterSqlOptions): Condition {
  if (!isId(id)) return sql`false`
  const { workspaceId, directoryId } = options
  const here = inDirectory(options)
  if (relation === 'groups') {
    // Whoever is in a group inside the group is in it as well.
    return sql`(u.id in (
    with recursive inside as (
      select ${id}::uuid as group_id
      union
      select s.subgroup_id from inside i join scim_group_subgroups s
      on s.workspace_id = ${workspaceId}::uuid and s.directory_id = ${directoryId}::uuid and s.group_id = i.group_id)
    select m.user_id from inside i join scim_group_memberships m
    on m.workspace_id = ${workspaceId}::uuid and m.directory_id = ${directoryId}::uuid and m.group_id = i.group_id))`
  }
  return sql`(g.id in (
    select group_id from scim_group_memberships where ${here} and user_id = ${id}::uuid
    union all
    select group_id from scim_group_subgroups where ${here} and subgroup_id = ${id}::uuid))`
}

function inDirectory({ workspaceId, directoryId }: FilterSqlOptions): Condition {
  return sql`(workspace_id = ${workspaceId}::uuid and directory_id = ${directoryId}::uuid)`
}

function exists({ source }: Many, condition: Condition): Condition {
  return sql`exists (select from ${source} where ${condition})`
}

function anyPresent({ many, compared }: { many: Many; compared: Attribute }): Condition {
  // A complex value that is stored has something in it.
  return compared.type === 'complex' ? exists(many, sql`true`) : exists(many, isPresent(many.find(compared)))
}

// ---- names

function resourceScope(options: FilterSqlOptions, reading: FilterReading): Scope {
  const find = (expression: Comparison | Presence | ValueFilter): Found => {
    const path = findFiltered(options.type, expression.attribute, reading)
    if (path === undefined)
      throw filterFault(expression, `${expression.attribute} is not an attribute of ${options.type}`)
    if (isComputed(path.attribute)) throw filterFault(expression, `${expression.attribute} cannot be filtered on`)
    const many = manyValues(path, options.type, inDirectory(options))
    if (many === undefined) {
      const one = singleOperand(expression.kind === 'compare' ? comparedPath(path) : path, options.type)
      if (one === undefined) throw new TypeError(`The attribute table does not say where ${expression.attribute} is.`)
      return { one }
    }
    if (path.attribute !== many.attribute) return { many, compared: path.attribute }
    // Presence of the attribute is presence of any value; a comparison is one of its `value`.
    return {
      many,
      compared: expression.kind === 'compare' ? (comparedAttribute(many.attribute) ?? many.attribute) : many.attribute,
    }
  }
  return { find, reading, options }
}

function entryScope(many: Many, { reading, options }: Scope): Scope {
  const find = (expression: Comparison | Presence | ValueFilter): Found => {
    const sub = findSubAttribute(many.attribute, expression.attribute)
    if (sub === undefined)
      throw filterFault(expression, `${expression.attribute} is not an attribute of ${many.attribute.name}`)
    if (isComputed(sub)) throw filterFault(expression, `${expression.attribute} cannot be filtered on`)
    return { one: many.find(sub) }
  }
  return { find, reading, options }
}

function isComputed({ home }: Attribute): boolean {
  return home !== undefined && 'computed' in home
}

const tables = { User: 'u', Group: 'g' } as const

/** The path to what a comparison compares. */
function comparedPath(path: AttributePath): AttributePath {
  const attribute = comparedAttribute(path.attribute)
  if (attribute === undefined || attribute === path.attribute) return path
  return { attribute, parents: [...path.parents, path.attribute], names: [...path.names, attribute.name] }
}

/** The operand of an attribute that has one value; undefined for what is stored nowhere. */
function singleOperand({ attribute, names }: AttributePath, type: ResourceTypeName): Operand | undefined {
  const { home } = attribute
  if (home !== undefined && 'constant' in home) return { attribute, text: sql<string>`${type}::text` }
  if (home !== undefined && 'column' in home) return columnOperand(attribute, { ...home, type })
  if (home !== undefined) return undefined
  // meta is no part of doc, but every resource has it.
  if (attribute.name === 'meta') return { attribute, text: sql<string>`'meta'` }
  return { attribute, text: sql<string>`(${sql.ref(`${tables[type]}.doc`)} #>> ${names}::text[])` }
}

function columnOperand(
  attribute: Attribute,
  { column, key, type }: { column: string; key?: string; type: ResourceTypeName },
): Operand {
  const value = sql.ref<string>(`${tables[type]}.${column}`)
  if (column === 'id') return { attribute, text: sql<string>`${value}::text`, column: { type: 'uuid', value } }
  if (attribute.type === 'dateTime') return { attribute, text: value, column: { type: 'timestamptz', value } }
  if (attribute.type === 'boolean') return { attribute, text: value, column: { type: 'boolean', value } }
  if (key === undefined) return { attribute, text: value }
  return { attribute, text: value, key: sql.ref<string>(`${tables[type]}.${key}`) }
}

/** The values of the multi-valued attribute that a path names or goes through. */
function manyValues(path: AttributePath, type: ResourceTypeName, here: Condition = sql`true`): Many | undefined {
  const chain = [...path.parents, path.attribute]
  const index = chain.findIndex(({ multiValued }) => multiValued)
  const attribute = chain[index]
  if (attribute === undefined) return undefined
  if (attribute.home !== undefined && 'relation' in attribute.home)
    return relationValues(attribute, attribute.home.relation, here)
  const values = sql`(${sql.ref(`${tables[type]}.doc`)} #> ${path.names.slice(0, index + 1)}::text[])`
  if (attribute.type !== 'complex') {
    const source = sql`json_array_elements_text(${values}) with ordinality as entry (value, position)`
    return { attribute, source, find: () => ({ attribute, text: sql<string>`entry.value` }) }
  }
  const source = sql`json_array_elements(${values}) with ordinality as entry (value, position)`
  return { attribute, source, find: elementOperand }
}

function elementOperand(sub: Attribute): Operand {
  return { attribute: sub, text: sql<string>`(entry.value ->> ${sub.name}::text)` }
}

function rowOperand(sub: Attribute): Operand {
  return { attribute: sub, text: sql.ref<string>(`entry.${sub.name}`) }
}

/** @param here the directory, in which groups around groups are looked for only where there are any */
function relationValues(attribute: Attribute, relation: 'members' | 'groups', here: Condition): Many {
  const source =
    relation === 'members'
      ? sql`(
    select m.user_id::text as value, 'User' as type from scim_group_memberships m
    where m.workspace_id = g.workspace_id and m.directory_id = g.directory_id and m.group_id = g.id
    union all
    select s.subgroup_id::text, 'Group' from scim_group_subgroups s
    where s.workspace_id = g.workspace_id and s.directory_id = g.directory_id and s.group_id = g.id) as entry`
      : sql`(
    select m.group_id::text as value, of_group.display_name as display, 'direct' as type
    from scim_group_memberships m join scim_groups of_group
    on of_group.workspace_id = m.workspace_id and of_group.directory_id = m.directory_id and of_group.id = m.group_id
    where m.workspace_id = u.workspace_id and m.directory_id = u.directory_id and m.user_id = u.id
    union all
    select r.group_id::text, of_group.display_name, 'indirect' from (
      with recursive reach as (
        select group_id, true as is_direct from scim_group_memberships
        where workspace_id = u.workspace_id and directory_id = u.directory_id and user_id = u.id
        union
        select s.group_id, false from reach r join scim_group_subgroups s
        on s.workspace_id = u.workspace_id and s.directory_id = u.directory_id and s.subgroup_id = r.group_id)
      select group_id from reach group by group_id having not bool_or(is_direct)) r
    join scim_groups of_group
    on of_group.workspace_id = u.workspace_id and of_group.directory_id = u.directory_id and of_group.id = r.group_id
    where (select exists (select from scim_group_subgroups where ${here}))) as entry`
  return { attribute, source, find: rowOperand, relation }
}
