import fc from 'fast-check'
import { resolveSchema, type JsonSchema } from './route-table.ts'

/** Values of a kind have more effect where that kind is expected than those that the first check of a type refuses. */
export interface HostileValues {
  texts: fc.Arbitrary<string>
  numbers: fc.Arbitrary<unknown>
  others: fc.Arbitrary<unknown>
}

export interface ValueOptions {
  /** The id for a property that names one, such as `memberId`; absent: a random UUID. */
  idOf?: (name: string) => string | undefined
  /** Take the place of a value, at every depth, once in four times. */
  hostile?: HostileValues
  /** One place of the value, as `placesOf` names it, with what it holds; the rest is as the schema says. */
  replaced?: { place: string; by: fc.Arbitrary<unknown> }
  /** Values for strings with a syntax, by the name of the property, such as `filter`. */
  texts?: Record<string, fc.Arbitrary<string>>
}

/** Recursion of schemas ends at this depth. */
const maxDepth = 6

/** Values that a schema of openapi.yaml accepts, as far as the schema says so; with `hostile`, values that come close. */
export function valuesOf(schema: JsonSchema, options: ValueOptions = {}, place = ''): fc.Arbitrary<unknown> {
  const { hostile, replaced } = options
  if (replaced?.place === place) return replaced.by
  const resolved = resolveSchema(schema)
  const fitting = fittingValues(resolved, options, place)
  if (hostile === undefined) return fitting
  const type = typeOf(resolved)
  const ofKind = type === 'string' ? hostile.texts : type === 'integer' || type === 'number' ? hostile.numbers : fitting
  return fc.oneof(
    { weight: 12, arbitrary: fitting },
    { weight: 3, arbitrary: ofKind },
    { weight: 1, arbitrary: hostile.others },
  )
}

export interface ValuePlace {
  place: string
  type: string | undefined
}

/** Every place of a schema that holds a text or a number, such as `/members/0/value`. */
export function placesOf(schema: JsonSchema, place = ''): ValuePlace[] {
  const resolved = resolveSchema(schema)
  const type = typeOf(resolved)
  const choices = choicesOf(resolved)
  if (choices) return placesOf(choices[0] ?? {}, place)
  if (depthOf(place) > maxDepth) return []
  if (type === 'array') return placesOf(resolved.items ?? {}, `${place}/0`)
  if (type === 'string' || type === 'integer' || type === 'number') return [{ place, type }]
  return Object.entries(resolved.properties ?? {}).flatMap(([name, each]) => placesOf(each, `${place}/${name}`))
}

function fittingValues(schema: JsonSchema, options: ValueOptions, place: string): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const choices = choicesOf(schema)
  if (choices) return valuesOfChoices(choices, options, place)
  switch (typeOf(schema)) {
    case 'object':
      return objects(schema, options, place)
    case 'array':
      return arrays(schema, options, place)
    case 'integer':
    case 'number':
      return integers(schema)
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'string':
      return strings(schema, options, place)
    case undefined:
    default:
      return fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null))
  }
}

/** The choices, null last. */
function choicesOf({ anyOf, oneOf }: JsonSchema): JsonSchema[] | undefined {
  return (anyOf ?? oneOf)?.toSorted((a, b) => Number(a.type === 'null') - Number(b.type === 'null'))
}

function valuesOfChoices(choices: JsonSchema[], options: ValueOptions, place: string): fc.Arbitrary<unknown> {
  const taken = isOnTheWay(options, place) ? choices.slice(0, 1) : choices
  return fc.oneof(...taken.map(each => valuesOf(each, options, place)))
}

function objects(schema: JsonSchema, options: ValueOptions, place: string): fc.Arbitrary<unknown> {
  const isNeeded = (name: string) =>
    schema.required?.includes(name) ||
    isOnTheWay(options, `${place}/${name}`) ||
    options.replaced?.place === `${place}/${name}`
  const names = Object.keys(schema.properties ?? {}).filter(name => depthOf(place) <= maxDepth || isNeeded(name))
  const model = Object.fromEntries(
    names.map(name => [name, valuesOf(schema.properties?.[name] ?? {}, options, `${place}/${name}`)]),
  )
  return fc.record(model, { requiredKeys: names.filter(isNeeded), noNullPrototype: true })
}

function arrays(schema: JsonSchema, options: ValueOptions, place: string): fc.Arbitrary<unknown> {
  const isNeeded = isOnTheWay(options, place)
  const maxLength = depthOf(place) > maxDepth && !isNeeded ? 0 : 3
  return fc.array(valuesOf(schema.items ?? {}, options, `${place}/0`), { minLength: isNeeded ? 1 : 0, maxLength })
}

/** Around the bounds more often than between them. */
function integers({ minimum = -1000, maximum = 1000 }: JsonSchema): fc.Arbitrary<number> {
  const [min, max] = [Math.max(minimum, -(2 ** 31)), Math.min(maximum, 2 ** 31 - 1)]
  return fc.oneof(fc.constantFrom(minimum, maximum), fc.integer({ min, max }))
}

function strings({ format, example }: JsonSchema, options: ValueOptions, place: string): fc.Arbitrary<unknown> {
  // `groupIds/0` is a group id.
  const name = place.replace(/s\/0$/, '').split('/').at(-1) ?? ''
  const text = options.texts?.[name]
  if (text) return text
  if (format === 'uuid' || /^(id|value|.+Id)$/.test(name)) {
    const id = options.idOf?.(name)
    return id === undefined ? fc.uuid({ version: 7 }) : fc.constant(id)
  }
  if (format === 'date-time') return fc.constantFrom('2026-01-31T12:00:00Z', '2100-01-01T00:00:00Z')
  if (typeof example === 'string') return fc.constant(example)
  return fc.constantFrom('ana', 'ana@example.com', 'https://idp.example.com')
}

function typeOf({ type }: JsonSchema): string | undefined {
  return [type].flat()[0]
}

function depthOf(place: string): number {
  return place.split('/').length - 1
}

/** Whether the replaced value lies below a place. */
function isOnTheWay({ replaced }: ValueOptions, place: string): boolean {
  return replaced !== undefined && replaced.place.startsWith(`${place}/`)
}
