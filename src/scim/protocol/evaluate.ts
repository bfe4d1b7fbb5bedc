import { comparedAttribute, findSubAttribute, comparable } from './attributes.ts'
import type { Attribute, ResourceTypeName } from './attributes.ts'
import { filterFault, findFiltered, isSubstring, readComparand } from './comparison.ts'
import type { Comparand, FilterReading } from './comparison.ts'
import type { Comparison, Filter, Operator } from './filter.ts'
import { isObject } from './reading.ts'
import type { ScimResource } from './reading.ts'

/** Filters over values in memory. The rules are those of `comparison.ts`, which SQL follows as well. */

/**
 * Whether a resource, as the client sees it, matches a filter.
 * @throws {AppError} `scim_invalid_filter` for unknown attributes and for operators that do not fit
 */
export function matches(
  filter: Filter,
  resource: ScimResource,
  { type, ...reading }: FilterReading & { type: ResourceTypeName },
): boolean {
  const find = (name: string): Found | undefined => {
    const path = findFiltered(type, name, reading)
    return path && { attribute: path.attribute, values: collect(resource, path.names) }
  }
  return evaluate(filter, { find, reading, what: type })
}

/**
 * Whether one value of a complex attribute matches the filter in the brackets of a path or a value filter.
 * @throws {AppError} as `matches`
 */
export function matchesEntry(
  filter: Filter,
  entry: unknown,
  { attribute, ...reading }: FilterReading & { attribute: Attribute },
): boolean {
  const find = (name: string): Found | undefined => {
    const sub = findSubAttribute(attribute, name)
    return sub && { attribute: sub, values: collect(entry, [sub.name]) }
  }
  return evaluate(filter, { find, reading, what: attribute.name })
}

interface Found {
  attribute: Attribute
  values: unknown[]
}

interface Scope {
  find: (name: string) => Found | undefined
  reading: FilterReading
  /** The owner of the attributes, for messages. */
  what: string
}

function evaluate(filter: Filter, scope: Scope): boolean {
  switch (filter.kind) {
    // Evaluate every operand so that an invalid one is found for all values.
    case 'and':
      return filter.operands.map(operand => evaluate(operand, scope)).every(Boolean)
    case 'or':
      return filter.operands.map(operand => evaluate(operand, scope)).some(Boolean)
    case 'not':
      return !evaluate(filter.operand, scope)
    case 'values': {
      const { attribute, values } = get(filter, scope)
      if (!attribute.multiValued)
        throw filterFault(filter, `${attribute.name} has one value, so a filter in brackets does not apply`)
      // Evaluate once without a value so that an invalid filter fails on an empty attribute too.
      matchesEntry(filter.filter, {}, { attribute, ...scope.reading })
      return values.some(entry => matchesEntry(filter.filter, entry, { attribute, ...scope.reading }))
    }
    case 'present':
      return get(filter, scope).values.some(isPresent)
    case 'compare':
      return compare(filter, scope)
  }
}

function compare(filter: Comparison, scope: Scope): boolean {
  const found = get(filter, scope)
  const attribute = comparedAttribute(found.attribute) ?? found.attribute
  const values = attribute === found.attribute ? found.values : collect(found.values, [attribute.name])
  const comparand = readComparand(attribute, filter, scope.reading)
  const holds = (value: unknown) => test(filter.operator, { value, comparand, attribute })
  if (comparand.kind === 'absent') return values.some(isPresent) === (filter.operator === 'ne')
  return values.some(holds) || (filter.operator === 'ne' && values.length === 0)
}

function get(filter: { attribute: string; offset: number }, { find, what }: Scope): Found {
  const found = find(filter.attribute)
  if (found === undefined) throw filterFault(filter, `${filter.attribute} is not an attribute of ${what}`)
  const { attribute } = found
  if (attribute.home !== undefined && 'computed' in attribute.home) {
    throw filterFault(filter, `${filter.attribute} cannot be filtered on`)
  }
  return found
}

/** The values at a path, those of every value where an attribute on the way has several. */
function collect(value: unknown, names: readonly string[]): unknown[] {
  const inside = Array.isArray(value) ? value : [value]
  const [name, ...rest] = names
  if (name === undefined) return inside.filter(found => found !== undefined && found !== null)
  return inside.flatMap(found => (isObject(found) && Object.hasOwn(found, name) ? collect(found[name], rest) : []))
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null && value !== ''
}

function test(
  operator: Operator,
  { value, comparand, attribute }: { value: unknown; comparand: Comparand; attribute: Attribute },
): boolean {
  switch (comparand.kind) {
    case 'absent':
    case 'unstorable':
      return operator === 'ne'
    case 'boolean':
      return (value === comparand.value) === (operator === 'eq')
    case 'instant':
      return inOrder(operator, Date.parse(String(value)) - comparand.value.getTime())
    case 'text': {
      const wanted = comparable(attribute, comparand.value, isSubstring(operator) ? 'part' : undefined)
      return testText(operator, comparable(attribute, String(value)), wanted)
    }
  }
}

function testText(operator: Operator, value: string, wanted: string): boolean {
  switch (operator) {
    case 'co':
      return value.includes(wanted)
    case 'sw':
      return value.startsWith(wanted)
    case 'ew':
      return value.endsWith(wanted)
    case 'eq':
    case 'ne':
    case 'gt':
    case 'ge':
    case 'lt':
    case 'le':
      // The order of UTF-8 bytes is that of code points; the order of JavaScript's own comparison is not.
      return inOrder(operator, Buffer.compare(Buffer.from(value), Buffer.from(wanted)))
  }
}

function inOrder(operator: Operator, difference: number): boolean {
  switch (operator) {
    case 'eq':
      return difference === 0
    case 'ne':
      return difference !== 0
    case 'gt':
      return difference > 0
    case 'ge':
      return difference >= 0
    case 'lt':
      return difference < 0
    case 'le':
      return difference <= 0
    case 'co':
    case 'sw':
    case 'ew':
      return false
  }
}
