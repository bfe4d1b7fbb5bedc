import { comparable, findSubAttribute, foldKey } from '../attributes.ts'
import type { Attribute } from '../attributes.ts'
import { isObject } from '../reading.ts'
import { invalid, isPrimary, MAX_VALUES } from '../value.ts'
import { asArray } from './edit.ts'
import type { Edit } from './edit.ts'

/** `add` to a multi-valued attribute, and the rules that its values must meet after any operation. */

/** A value after an operation, and whether the operation touched it. */
export interface Edited {
  entry: unknown
  touched: boolean
}

export function untouched(entries: readonly unknown[]): Edited[] {
  return entries.map(entry => ({ entry, touched: false }))
}

export function addEntries(
  attribute: Attribute,
  current: unknown,
  { added, edit }: { added: unknown; edit: Edit },
): unknown {
  const edited = untouched(asArray(current))
  const places = new Map<string, number>()
  for (const [index, { entry }] of edited.entries()) {
    const key = entryKey(attribute, entry)
    if (!places.has(key)) places.set(key, index)
  }
  for (const entry of asArray(added)) {
    const key = entryKey(attribute, entry)
    const index = places.get(key) ?? edited.length
    places.set(key, index)
    const existing = edited[index]?.entry
    const merged = isObject(existing) && isObject(entry) ? { ...existing, ...entry } : entry
    edited[index] = { entry: merged, touched: true }
  }
  return settle(attribute, edited, edit)
}

/**
 * Gives equal text for two values that RFC 7643 §2.4 treats as one: the same `value` and `type`, or without `value` all
 * sub-attributes the same. Comparing a thousand values pairwise would take seconds.
 */
export function entryKey(attribute: Attribute, entry: unknown): string {
  const value = comparedText(attribute, 'value', entry)
  if (value !== undefined) return JSON.stringify([value, comparedText(attribute, 'type', entry)])
  return JSON.stringify(isObject(entry) ? Object.entries(entry).toSorted(([a], [b]) => (a < b ? -1 : 1)) : { entry })
}

/** The text by which a sub-attribute compares. Undefined for other types. */
export function comparedText(attribute: Attribute, name: string, entry: unknown): string | undefined {
  const text = isObject(entry) ? entry[name] : undefined
  if (typeof text !== 'string') return undefined
  const sub = findSubAttribute(attribute, name)
  return sub === undefined ? foldKey(text) : comparable(sub, text)
}

/** Creates the test whether a removal names a value: by `value`, and by `type` if the removal has one. */
export function namedBy(attribute: Attribute, wanted: readonly unknown[]): (entry: unknown) => boolean {
  const values = new Set<string>()
  const typed = new Set<string>()
  for (const each of wanted) {
    const value = comparedText(attribute, 'value', each)
    if (value === undefined) continue
    if (hasType(each)) typed.add(entryKey(attribute, each))
    else values.add(value)
  }
  return entry => {
    const value = comparedText(attribute, 'value', entry)
    return value !== undefined && (values.has(value) || typed.has(entryKey(attribute, entry)))
  }
}

export function hasType(entry: unknown): boolean {
  return isObject(entry) && typeof entry.type === 'string'
}

/**
 * Applies the rules for the values after an operation: at most 1,000, no duplicates of touched values, and at most one
 * primary, the touched one.
 */
export function settle(attribute: Attribute, edited: readonly Edited[], edit: Edit): unknown {
  const seen = new Set<string>()
  const distinct = edited.filter(({ entry, touched }) => {
    if (!touched) return true
    const key = entryKey(attribute, entry)
    const isNew = !seen.has(key)
    seen.add(key)
    return isNew
  })
  if (distinct.length > MAX_VALUES) throw invalid(attribute, edit.pointer, `has at most ${MAX_VALUES} values`)
  const [primary, second] = distinct.filter(({ entry, touched }) => touched && isPrimary(entry))
  if (second !== undefined) throw invalid(attribute, edit.pointer, 'has at most one primary value')
  const settled = distinct.map(({ entry }) =>
    primary !== undefined && entry !== primary.entry && isObject(entry) && isPrimary(entry)
      ? { ...entry, primary: false }
      : entry,
  )
  return settled.length === 0 ? undefined : settled
}

/** Reports whether two JSON values are equal. The order of keys does not matter. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((value, index) => sameJson(value, b[index]))
  }
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every(key => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
}
