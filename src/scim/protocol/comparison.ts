import { AppError } from '../../errors.ts'
import { findAttribute, findUnqualified, isStorable } from './attributes.ts'
import type { Attribute, AttributePath, Mode, ResourceTypeName } from './attributes.ts'
import type { Comparison, Operator } from './filter.ts'
import type { Leniency, LeniencyName } from './reading.ts'

/**
 * The rules of comparison, decided once for SQL and for values in memory (RFC 7644 §3.4.2.2):
 *
 * - A multi-valued attribute matches when any of its values does.
 * - `ne` also holds when the attribute is unassigned.
 * - `eq null` holds when the attribute is unassigned, `ne null` when it is not. Empty text counts as unassigned for
 *   `pr`, as the RFC wants a "non-empty" value.
 * - Text is ordered by code point, after folding where the attribute is not case-exact.
 * - Date-times compare as instants, to the millisecond; without an offset they are UTC.
 */
export type Comparand =
  | { kind: 'absent' }
  /** Text that Postgres cannot store: equals nothing. */
  | { kind: 'unstorable' }
  | { kind: 'text'; value: string }
  | { kind: 'boolean'; value: boolean }
  | { kind: 'instant'; value: Date }

export interface FilterReading {
  mode: Mode
  leniencies: Leniency[]
}

const ordering: readonly Operator[] = ['gt', 'ge', 'lt', 'le']
const substring: readonly Operator[] = ['co', 'sw', 'ew']

/** Reports whether an operator compares a part of the text. */
export function isSubstring(operator: Operator): boolean {
  return substring.includes(operator)
}

/**
 * Checks that the operator and the literal fit the attribute, and brings the literal into the type of the attribute.
 * @throws {AppError} `scim_invalid_filter`, naming the attribute and its offset
 */
export function readComparand(attribute: Attribute, comparison: Comparison, reading: FilterReading): Comparand {
  const { operator, value } = comparison
  const fail = (rule: string) => filterFault(comparison, `${attribute.name} ${rule}`)
  if (value === null) {
    if (operator === 'eq' || operator === 'ne') return { kind: 'absent' }
    throw fail(`cannot be compared with null by ${operator}`)
  }
  switch (attribute.type) {
    case 'complex':
      throw fail('is complex. Compare one of its sub-attributes, or use pr')
    case 'boolean':
      if (operator !== 'eq' && operator !== 'ne') throw fail(`is a boolean and cannot be compared by ${operator}`)
      return { kind: 'boolean', value: asBoolean(attribute, comparison, reading) }
    case 'dateTime': {
      if (substring.includes(operator)) throw fail(`is a date-time and cannot be compared by ${operator}`)
      const instant = typeof value === 'string' ? readInstant(value, operator) : undefined
      if (instant === undefined) throw fail('must be compared with a date-time such as "2026-01-31T12:00:00Z"')
      return { kind: 'instant', value: instant }
    }
    case 'binary':
      if (ordering.includes(operator)) throw fail(`is binary and cannot be compared by ${operator}`)
      return asText(value, fail)
    case 'string':
    case 'reference':
      return asText(value, fail)
  }
}

/** Finds the attribute that a filter names. In tolerant mode the URN of its extension may be missing. */
export function findFiltered(type: ResourceTypeName, name: string, reading: FilterReading): AttributePath | undefined {
  const found = findAttribute(type, name)
  if (found !== undefined || reading.mode === 'strict') return found
  const unqualified = findUnqualified(type, name)
  if (unqualified !== undefined) overlook(reading, 'extension_unqualified')
  return unqualified
}

/** An error about an attribute or a value of a filter whose grammar is valid. */
export function filterFault({ offset }: { offset: number }, message: string): AppError {
  return new AppError('scim_invalid_filter', `${message} (at offset ${offset}).`)
}

function asText(value: string | number | boolean, fail: (rule: string) => AppError): Comparand {
  if (typeof value !== 'string') throw fail('is text. Put the value in double quotes')
  return isStorable(value) ? { kind: 'text', value } : { kind: 'unstorable' }
}

// Entra quotes booleans: roles[primary eq "True"].
function asBoolean(attribute: Attribute, comparison: Comparison, reading: FilterReading): boolean {
  if (typeof comparison.value === 'boolean') return comparison.value
  const word = String(comparison.value).toLowerCase()
  if (reading.mode === 'strict' || (word !== 'true' && word !== 'false')) {
    throw filterFault(comparison, `${attribute.name} must be compared with true or false, without quotes`)
  }
  overlook(reading, 'boolean_as_string')
  return word === 'true'
}

/** A filter runs over many values; the leniency is one. */
function overlook({ leniencies }: FilterReading, used: LeniencyName): void {
  if (!leniencies.some(({ name, pointer }) => name === used && pointer === '')) {
    leniencies.push({ name: used, pointer: '' })
  }
}

const DATE_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.(\d{1,12}))?)?(Z|[+-]\d\d:\d\d)?$/i

// Stored instants are whole milliseconds. A finer literal lies between two of them, so it is moved to the one that gives
// the same answer: x >= 1.5 and x < 1.5 mean 2, x > 1.5 and x <= 1.5 mean 1.
function readInstant(text: string, operator: Operator): Date | undefined {
  const parts = DATE_TIME.exec(text)
  if (parts === null) return undefined
  const [, fraction = '', offset] = parts
  const whole = Date.parse(offset === undefined ? `${text}Z` : text)
  // Date.parse takes the 30th of February for the first of March.
  const [date = ''] = text.split(/t/i)
  if (Number.isNaN(whole) || !new Date(`${date}T00:00Z`).toISOString().startsWith(date)) return undefined
  const between = /[1-9]/.test(fraction.slice(3))
  const instant = between && (operator === 'ge' || operator === 'lt') ? whole + 1 : whole
  // An offset can lead out of the years 1 to 9999, where nothing is stored.
  return new Date(Math.min(Math.max(instant, FIRST_INSTANT), LAST_INSTANT))
}

const FIRST_INSTANT = Date.parse('0001-01-01T00:00:00Z')
const LAST_INSTANT = Date.parse('9999-12-31T23:59:59.999Z')
