import type { AppError } from '../../../errors.ts'
import { comparisonKey } from '../attributes.ts'
import type { Attribute } from '../attributes.ts'
import type { MembershipStep } from '../membership-values.ts'
import { allow, isObject, refuse } from '../reading.ts'
import type { Place, Reading, Refusal, ScimResource } from '../reading.ts'
import type { Operation } from './message.ts'

/** What the edits of a PATCH share: the state of the run, and refusals that several of them use. */

/** A PATCH under way. */
export interface Run extends Reading {
  steps: MembershipStep[]
}

/** One edit of one attribute. */
export interface Edit {
  op: Operation['op']
  value: unknown
  /** Of the value in the body. */
  pointer: string
  /** Of the path in the body, for faults of the target. */
  pathPointer: string
  run: Run
}

export function clear(attribute: Attribute, { code, pointer }: Pick<Refusal, 'code' | 'pointer'>): undefined {
  if (attribute.required || attribute.default !== undefined) {
    throw refuse({ code, message: `${attribute.name} must have a value.`, pointer })
  }
  return undefined
}

/** Reports whether a value unassigns the attribute: null, and in tolerant mode the empty text that Entra sends. */
export function isClearing(attribute: Attribute, value: unknown, { run, pointer }: Edit): boolean {
  if (value === null || value === undefined) return true
  if (typeof value !== 'string' || comparisonKey(value) !== '') return false
  if (attribute.required) return true
  if (value !== '' || run.mode === 'strict') return false
  run.leniencies.push({ name: 'empty_string_cleared', pointer })
  return true
}

export function ignoreRemoveValue({ op, value, run, pointer }: Edit): void {
  if (op !== 'remove' || value === undefined || value === null) return
  const message = 'remove takes no value. Its path selects what to remove.'
  allow(run, 'remove_value_ignored', { code: 'scim_invalid_syntax', message, pointer })
}

export function allowRemoveByValue(advice: string, { reading, pointer }: Place): void {
  const message = `remove takes no value. Select the values in the path, as in ${advice}.`
  allow(reading, 'remove_by_value', { code: 'scim_invalid_syntax', message, pointer })
}

export function missTarget({ name }: Attribute, { run, pathPointer }: Edit): void {
  allow(run, 'target_missed', noTarget(name, pathPointer))
}

/** The refusal of a filter that selects nothing (RFC 7644 table 9). */
export function noTarget(name: string, pointer: string): Refusal {
  return { code: 'scim_no_target', message: `The filter selects no value of ${name}.`, pointer }
}

export function invalidPath(message: string, pointer: string): AppError {
  return refuse({ code: 'scim_invalid_path', message, pointer })
}

/** Returns the container with the attribute set. Undefined and an empty complex value unset it. */
export function withAttribute(container: ScimResource, name: string, value: unknown): ScimResource {
  if (value !== undefined && !(isObject(value) && Object.keys(value).length === 0)) {
    return { ...container, [name]: value }
  }
  return Object.fromEntries(Object.entries(container).filter(([key]) => key !== name))
}

/** Removes a reference without `value`, and the old `$ref` of a reference with a new `value`. */
export function followReference(before: ScimResource, after: ScimResource): ScimResource | undefined {
  if (before.value === after.value) return after
  if (after.value === undefined) return undefined
  return before.$ref !== undefined && before.$ref === after.$ref ? withAttribute(after, '$ref', undefined) : after
}

export function asArray(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : []
}
