import { findAttribute, findSubAttribute, resourceTypes } from './attributes.ts'
import type { Attribute, AttributePath, Mode, ResourceTypeName } from './attributes.ts'
import { isExtensionName } from './names.ts'
import { inferAttribute, storedExtension } from './open-extension.ts'
import { allow, isObject, printable, refuse } from './reading.ts'
import type { Leniency, Reading, ScimResource } from './reading.ts'

/**
 * The effect of `attributes` and `excludedAttributes` (RFC 7644 §3.4.2.5, §3.9). Without both there is no projection, and
 * the stored document is sent unchanged.
 */
export interface Projection {
  type: ResourceTypeName
  kind: 'only' | 'except'
  names: NameTree
  /** Extensions without a schema, or attributes of them; the stored extension decides where the URN ends. */
  foreign: readonly string[]
}

/** Names by level. A level without names includes everything below it. */
type NameTree = Map<string, NameTree>

/**
 * Reads the two parameters. Names compare without case and may be URN-qualified; a URN alone means its whole extension.
 * @returns no projection when everything is wanted
 * @throws {AppError} `scim_invalid_value` when both are given; in strict mode also for names that no schema has
 */
export function readProjection(
  type: ResourceTypeName,
  { attributes, excludedAttributes }: { attributes?: readonly string[]; excludedAttributes?: readonly string[] },
  mode: Mode,
): { projection?: Projection; leniencies: Leniency[] } {
  const reading: Reading = { type, mode, leniencies: [] }
  const only = listNames(attributes)
  const except = listNames(excludedAttributes)
  if (only.length > 0 && except.length > 0) {
    const message = 'Send attributes or excludedAttributes, not both.'
    throw refuse({ code: 'scim_invalid_value', message, pointer: '/excludedAttributes' })
  }
  if (only.length === 0 && except.length === 0) return { leniencies: [] }
  const kind = only.length > 0 ? 'only' : 'except'
  const pointer = kind === 'only' ? '/attributes' : '/excludedAttributes'
  const names: NameTree = new Map()
  const wanted = kind === 'only' ? only : except
  const isForeign = (name: string) => isExtensionName(name) && findAttribute(type, name) === undefined
  for (const name of wanted.filter(each => !isForeign(each))) addName(names, { name, kind }, { reading, pointer })
  return { projection: { type, kind, names, foreign: wanted.filter(isForeign) }, leniencies: reading.leniencies }
}

/** Reports whether the response has any part of an attribute, so that it must be read. */
export function returnsAttribute(projection: Projection | undefined, name: string): boolean {
  if (projection === undefined || isAlwaysReturned(projection.type, name)) return true
  const below = projection.names.get(name)
  return projection.kind === 'only' ? below !== undefined : below === undefined || below.size > 0
}

/** Reports whether the stored document is sent unchanged: the projection only excludes whole attributes stored outside it. */
export function keepsDocument(projection: Projection | undefined): boolean {
  if (projection === undefined) return true
  return (
    projection.kind === 'except' &&
    projection.foreign.length === 0 &&
    [...projection.names].every(([name, below]) => outside.has(name) && below.size === 0)
  )
}

const outside: ReadonlySet<string> = new Set(['meta', 'active', 'groups', 'members'])

/** Applies a projection to a complete resource. */
export function project(projection: Projection | undefined, resource: ScimResource): ScimResource {
  if (projection === undefined) return resource
  const { type, kind } = projection
  const names = namesOf(projection, resource)
  const kept = Object.entries(resource).flatMap(([name, value]) => {
    if (isAlwaysReturned(type, name)) return [[name, value]]
    const left = kind === 'only' ? pick(names.get(name), value) : omit(names.get(name), value)
    return left === undefined ? [] : [[name, left]]
  })
  return Object.fromEntries(kept) as ScimResource
}

/** The names of a projection with those of extensions in the spelling that the resource stores. */
function namesOf({ names, foreign }: Projection, resource: ScimResource): NameTree {
  if (foreign.length === 0) return names
  const tree = structuredClone(names)
  for (const name of foreign) {
    const urn = storedExtension(name, resource)
    if (urn === undefined) continue
    const rest = name.length === urn.length ? [] : name.slice(urn.length + 1).split('.')
    const path = storedPath(inferAttribute(urn, [resource[urn]]), rest)
    if (path !== undefined) addPath(tree, path)
  }
  return tree
}

/** The names that lead to an attribute, or undefined when the resource does not have it. */
function storedPath(attribute: Attribute, [name, ...rest]: readonly string[]): string[] | undefined {
  if (name === undefined) return [attribute.name]
  const sub = findSubAttribute(attribute, name)
  const path = sub && storedPath(sub, rest)
  return path && [attribute.name, ...path]
}

function listNames(names: readonly string[] = []): string[] {
  return names
    .flatMap(list => list.split(','))
    .map(name => name.trim())
    .filter(name => name !== '')
}

function addName(
  tree: NameTree,
  { name, kind }: { name: string; kind: Projection['kind'] },
  { reading, pointer }: { reading: Reading; pointer: string },
): void {
  const path = findAttribute(reading.type, name)
  if (path === undefined) {
    const message = `${printable(name)} is not an attribute of ${reading.type}. See /Schemas.`
    allow(reading, 'attribute_unknown', { code: 'scim_invalid_value', message, pointer })
    return
  }
  // What is always returned cannot be left out.
  if (kind === 'except' && [...path.parents, path.attribute].some(isAlways)) return
  addPath(tree, path.names)
}

function isAlways({ returned }: Pick<AttributePath['attribute'], 'returned'>): boolean {
  return returned === 'always'
}

/** Adds a path to the tree. The shorter of two paths wins because it includes the longer one. */
function addPath(tree: NameTree, [name, ...rest]: readonly string[]): void {
  if (name === undefined) return
  const known = tree.get(name)
  if (known?.size === 0) return
  if (rest.length === 0) {
    tree.set(name, new Map())
    return
  }
  const below = known ?? new Map<string, NameTree>()
  addPath(below, rest)
  tree.set(name, below)
}

function pick(tree: NameTree | undefined, value: unknown): unknown {
  if (tree === undefined) return undefined
  if (tree.size === 0) return value
  return onObjects(value, entries => entries.map(([name, inner]) => [name, pick(tree.get(name), inner)]))
}

function omit(tree: NameTree | undefined, value: unknown): unknown {
  if (tree === undefined) return value
  if (tree.size === 0) return undefined
  return onObjects(value, entries => entries.map(([name, inner]) => [name, omit(tree.get(name), inner)]))
}

/** Maps the entries of an object, or of each object in an array. Undefined when nothing remains. */
function onObjects(value: unknown, change: (entries: [string, unknown][]) => [string, unknown][]): unknown {
  if (Array.isArray(value)) {
    const left = value.map(entry => onObjects(entry, change)).filter(entry => entry !== undefined)
    return left.length === 0 ? undefined : left
  }
  if (!isObject(value)) return value
  const left = change(Object.entries(value)).filter(([, inner]) => inner !== undefined)
  return left.length === 0 ? undefined : Object.fromEntries(left)
}

const always: Readonly<Record<ResourceTypeName, ReadonlySet<string>>> = {
  User: alwaysReturned('User'),
  Group: alwaysReturned('Group'),
}

function alwaysReturned(type: ResourceTypeName): ReadonlySet<string> {
  const { common, attributes } = resourceTypes[type]
  return new Set([...common, ...attributes].filter(isAlways).map(({ name }: Attribute) => name))
}

function isAlwaysReturned(type: ResourceTypeName, name: string): boolean {
  return always[type].has(name)
}
