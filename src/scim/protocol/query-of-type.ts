import { findAttribute } from './attributes.ts'
import type { ResourceTypeName } from './attributes.ts'
import { parseFilter, printFilter } from './filter.ts'
import type { Filter } from './filter.ts'
import type { ListQuery } from './list-query.ts'

type Part = Pick<ListQuery, 'filter' | 'sortBy' | 'attributes' | 'excludedAttributes'>

/**
 * Reduces a query over several resource types to one of them. An attribute that only another type has counts as unassigned
 * (RFC 7644 §3.4.2.1): comparisons are decided accordingly, and sorting and returning by it are dropped. A name that no
 * type has stays, so that it is refused.
 */
export function queryOfType<Query extends Part>(
  query: Query,
  type: ResourceTypeName,
  types: readonly ResourceTypeName[],
): Query {
  const isElsewhere = (name: string) =>
    findAttribute(type, name) === undefined && types.some(other => findAttribute(other, name) !== undefined)
  const { filter, sortBy, ...rest } = query
  return {
    ...(rest as Query),
    ...(filter !== undefined && { filter: filterOfType(filter, isElsewhere) }),
    ...(sortBy !== undefined && !isElsewhere(sortBy) && { sortBy }),
    attributes: namesOfType(query.attributes, { isElsewhere, otherwise: ['id'] }),
    excludedAttributes: namesOfType(query.excludedAttributes, { isElsewhere, otherwise: [] }),
  }
}

type IsElsewhere = (name: string) => boolean

function namesOfType(
  names: readonly string[],
  { isElsewhere, otherwise }: { isElsewhere: IsElsewhere; otherwise: readonly string[] },
): readonly string[] {
  if (names.length === 0) return names
  const left = names.flatMap(text => text.split(',')).filter(name => !isElsewhere(name.trim()))
  return left.length === 0 ? otherwise : left
}

/** Returns the same text when every attribute belongs to this type, so that errors name the right offset. */
function filterOfType(text: string, isElsewhere: IsElsewhere): string {
  const tree = parseFilter(text)
  const decided = decide(tree, isElsewhere)
  return decided === tree ? text : printFilter(decided)
}

function decide(filter: Filter, isElsewhere: IsElsewhere): Filter {
  switch (filter.kind) {
    case 'and':
    case 'or': {
      const operands = filter.operands.map(operand => decide(operand, isElsewhere))
      return operands.every((operand, index) => operand === filter.operands[index]) ? filter : { ...filter, operands }
    }
    case 'not': {
      const operand = decide(filter.operand, isElsewhere)
      return operand === filter.operand ? filter : { ...filter, operand }
    }
    case 'values':
    case 'present':
    case 'compare':
      return isElsewhere(filter.attribute) ? constant(holdsWithoutValue(filter), filter.offset) : filter
  }
}

function holdsWithoutValue(filter: Filter): boolean {
  if (filter.kind !== 'compare') return false
  return filter.value === null ? filter.operator === 'eq' : filter.operator === 'ne'
}

/** Every resource has an id. */
function constant(holds: boolean, offset: number): Filter {
  return holds
    ? { kind: 'present', attribute: 'id', offset }
    : { kind: 'compare', attribute: 'id', operator: 'eq', value: null, offset }
}
