import type { FastifyInstance, FastifyRequest } from 'fastify'
import { AppError } from '../../errors.ts'
import type { Mode } from '../protocol/attributes.ts'
import { DEFAULT_COUNT, MAX_COUNT } from '../protocol/list-query.ts'
import { MAX_BULK_OPERATIONS, resourceTypeResources, schemaResources } from '../protocol/schemas.ts'
import type { DiscoveryResource } from '../protocol/schemas.ts'
import { serializeList } from '../protocol/serialize.ts'
import { requireLiveCredential } from '../storage/credential.ts'
import { CURSOR_SECONDS } from '../lists/cursor.ts'
import { baseUrlOf, callerOf, serve, type ScimOptions } from './serve.ts'

/**
 * What clients can find out (RFC 7644 §4), written from the attribute table and the limits in force, so that it cannot say
 * what is not so.
 */
export async function discoveryRoutes(app: FastifyInstance, options: ScimOptions): Promise<void> {
  const open = async (request: FastifyRequest): Promise<string> => {
    const caller = callerOf(request)
    await requireLiveCredential(options.db, caller)
    if (Object.keys(request.query as object).some(name => name.toLowerCase() === 'filter')) {
      throw new AppError('forbidden', 'This endpoint takes no filter: it lists all there is (RFC 7644 section 4).')
    }
    return baseUrlOf(options.config, caller)
  }

  serve(app, '/ServiceProviderConfig', {
    GET: {
      operationId: 'getServiceProviderConfig',
      summary: 'What this endpoint can do',
      handler: async request => {
        const baseUrl = await open(request)
        return JSON.stringify(serviceProviderConfig(baseUrl, { ...options, mode: callerOf(request).mode }))
      },
    },
  })

  serveResources(app, {
    path: '/Schemas',
    names: ['listSchemas', 'getSchema'],
    open,
    resources: schemaResources,
  })
  serveResources(app, {
    path: '/ResourceTypes',
    names: ['listResourceTypes', 'getResourceType'],
    open,
    resources: resourceTypeResources,
  })
}

interface Discovery {
  path: string
  names: [list: string, get: string]
  open: (request: FastifyRequest) => Promise<string>
  resources: (baseUrl: string) => DiscoveryResource[]
}

function serveResources(app: FastifyInstance, { path, names: [list, get], open, resources }: Discovery): void {
  serve(app, path, {
    GET: {
      operationId: list,
      summary: `List ${path.slice(1)}`,
      handler: async request => {
        const all = resources(await open(request))
        const texts = all.map(resource => JSON.stringify(resource))
        return serializeList({ totalResults: all.length, startIndex: 1, resources: texts })
      },
    },
  })
  serve(app, `${path}/:id`, {
    GET: {
      operationId: get,
      summary: `Get one of ${path.slice(1)}`,
      handler: async request => {
        const { id } = request.params as { id: string }
        const found = resources(await open(request)).find(resource => resource.id.toLowerCase() === id.toLowerCase())
        if (!found) throw new AppError('not_found', `There is nothing of this id: see ${path}.`)
        return JSON.stringify(found)
      },
    },
  })
}

/**
 * RFC 7643 §5, and RFC 9865 §4 for `pagination`. Whether a directory follows all of the interoperability profile
 * (draft-zollner-scim-interop-profile §4) depends on its mode: the leniencies of the tolerant one are what it forbids. There
 * the attribute is left out, as the draft allows: some clients stop at one that RFC 7643 does not have.
 */
function serviceProviderConfig(baseUrl: string, { config, mode }: ScimOptions & { mode: Mode }): object {
  return {
    schemas: ['urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig'],
    documentationUri: `${config.publicUrl}/docs`,
    patch: { supported: true },
    bulk: { supported: true, maxOperations: MAX_BULK_OPERATIONS, maxPayloadSize: config.scimMaxBodyBytes },
    filter: { supported: true, maxResults: MAX_COUNT },
    changePassword: { supported: false },
    sort: { supported: true },
    etag: { supported: true },
    ...(mode === 'strict' && { interopProfileConformant: true }),
    pagination: {
      cursor: true,
      index: true,
      defaultPaginationMethod: 'index',
      defaultPageSize: DEFAULT_COUNT,
      maxPageSize: MAX_COUNT,
      cursorTimeout: CURSOR_SECONDS,
    },
    authenticationSchemes: [
      {
        type: 'oauthbearertoken',
        name: 'Directory token',
        description: 'A bearer token of this directory, made by an admin of the workspace',
        specUri: 'https://www.rfc-editor.org/info/rfc6750',
        primary: true,
      },
    ],
    meta: { resourceType: 'ServiceProviderConfig', location: `${baseUrl}/ServiceProviderConfig` },
  }
}
