import { resourceTypes } from './attributes.ts'
import type { Attribute, ResourceType } from './attributes.ts'

/** /Schemas and /ResourceTypes (RFC 7643 §6, §7), written from the attribute table. */

const SCHEMA = 'urn:ietf:params:scim:schemas:core:2.0:Schema'
const RESOURCE_TYPE = 'urn:ietf:params:scim:schemas:core:2.0:ResourceType'

export interface DiscoveryResource {
  schemas: string[]
  id: string
  [attribute: string]: unknown
}

/**
 * All schemas. `externalId` is among the attributes although every resource has it, because that is where clients look
 * for what they can map.
 * @param baseUrl of the SCIM endpoint, without a slash at the end
 */
export function schemaResources(baseUrl: string): DiscoveryResource[] {
  return Object.values(resourceTypes).flatMap(type => [
    schemaResource(baseUrl, {
      id: type.schema,
      name: type.name,
      description: type.description,
      attributes: [...type.common.filter(({ name }) => name === 'externalId'), ...type.attributes],
    }),
    ...type.extensions.map(extension =>
      schemaResource(baseUrl, {
        id: extension.name,
        name: 'EnterpriseUser',
        description: extension.description,
        attributes: extension.subAttributes ?? [],
      }),
    ),
  ])
}

/** All resource types; `baseUrl` as for schemas. */
export function resourceTypeResources(baseUrl: string): DiscoveryResource[] {
  return Object.values(resourceTypes).map(type => ({
    schemas: [RESOURCE_TYPE],
    id: type.name,
    name: type.name,
    description: type.description,
    endpoint: type.endpoint,
    schema: type.schema,
    ...schemaExtensions(type),
    meta: { resourceType: 'ResourceType', location: `${baseUrl}/ResourceTypes/${type.name}` },
  }))
}

function schemaExtensions({ extensions }: ResourceType): { schemaExtensions?: object[] } {
  if (extensions.length === 0) return {}
  return { schemaExtensions: extensions.map(({ name }) => ({ schema: name, required: false })) }
}

function schemaResource(
  baseUrl: string,
  { attributes, ...schema }: { id: string; name: string; description: string; attributes: readonly Attribute[] },
): DiscoveryResource {
  return {
    schemas: [SCHEMA],
    ...schema,
    attributes: attributes.map(attributeResource),
    meta: { resourceType: 'Schema', location: `${baseUrl}/Schemas/${schema.id}` },
  }
}

function attributeResource(attribute: Attribute): object {
  const { name, type, multiValued, description, required, mutability, returned, uniqueness } = attribute
  const { caseExact, canonicalValues, referenceTypes, subAttributes } = attribute
  const isText = type !== 'complex' && type !== 'boolean' && type !== 'dateTime'
  return {
    name,
    type,
    multiValued,
    description,
    required,
    ...(isText ? { caseExact } : {}),
    mutability,
    returned,
    uniqueness,
    ...(canonicalValues ? { canonicalValues } : {}),
    ...(referenceTypes ? { referenceTypes } : {}),
    ...(subAttributes ? { subAttributes: subAttributes.map(attributeResource) } : {}),
  }
}

/** Operations of one bulk request at most (RFC 7644 §3.7.4). */
export const MAX_BULK_OPERATIONS = 1_000
