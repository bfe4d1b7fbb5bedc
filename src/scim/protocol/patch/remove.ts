import { at } from '../../../json-pointer.ts'
import type { Attribute } from '../attributes.ts'
import { refuse } from '../reading.ts'
import type { Place } from '../reading.ts'
import { asComplex, listValues } from '../value.ts'
import { namedBy } from './add.ts'
import { allowRemoveByValue, asArray, clear, ignoreRemoveValue, missTarget } from './edit.ts'
import type { Edit } from './edit.ts'

/** `remove` of an attribute, or of some of its values. */

export function removeAttribute(attribute: Attribute, current: unknown, edit: Edit): unknown {
  const { value, run, pointer, pathPointer } = edit
  if (!attribute.multiValued || value === undefined || value === null) {
    ignoreRemoveValue(edit)
    if (attribute.default !== undefined) return removeDefaulted(attribute, current, pathPointer)
    return clear(attribute, { code: 'scim_mutability', pointer: pathPointer })
  }
  const place: Place = { reading: run, pointer }
  allowRemoveByValue(`${attribute.name}[value eq "…"]`, place)
  const wanted = listValues(attribute, value, place).map((entry, index) =>
    asComplex(attribute, entry, { reading: run, pointer: Array.isArray(value) ? at(pointer, index) : pointer }),
  )
  const entries = asArray(current)
  const isNamed = namedBy(attribute, wanted)
  const left = entries.filter(entry => !isNamed(entry))
  if (left.length === entries.length) missTarget(attribute, edit)
  return left.length === 0 ? undefined : left
}

/**
 * An unassigned attribute has its default value, so removing the default value changes nothing. Removing `active: false` is
 * refused because it would give access back.
 */
export function removeDefaulted({ name, default: usual }: Attribute, current: unknown, pointer: string): unknown {
  if (current === undefined || current === usual) return current
  const message = `${name} cannot be removed while it is ${String(!usual)}. Replace it with ${String(usual)} instead.`
  throw refuse({ code: 'scim_mutability', message, pointer })
}
