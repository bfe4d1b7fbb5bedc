import { generateKeyPair, SignJWT } from 'jose'
import { bearer, serviceHeaders, signToken } from './app.ts'
import type { Route } from './route-table.ts'
import { type Headers, type TestDirectory } from './scim.ts'
import type { Tenant } from './tenant.ts'

export interface ForeignCredential {
  kind: string
  headers: Headers
}

/** Every kind of credential that must not open a route of `victim`, by the guard of the route. */
export async function makeForeignCredentials(
  { victim, caller }: { victim: Tenant; caller: Tenant },
  publicUrl: string,
): Promise<Record<Route['guard'], ForeignCredential[]>> {
  const workspace = victim.acme.workspaceId
  const session = await caller.startSession('olga')
  const cookie = {
    cookie: `__Host-assist-session=${session.authorization?.slice(7)}`,
    origin: 'https://app.assist.example',
  }
  const now = Math.floor(Date.now() / 1000)
  const useless = [
    { kind: 'no credential', headers: {} },
    { kind: 'a malformed header', headers: { authorization: 'Bearer' } },
    { kind: 'Basic authentication', headers: { authorization: 'Basic b2xnYTpvbGdh' } },
    { kind: 'a random token', headers: { authorization: `Bearer ${'a'.repeat(43)}` } },
    { kind: 'an unsigned JWT', headers: { authorization: `Bearer ${unsigned({ workspace, role: 'owner' })}` } },
    { kind: 'a token signed by another key', headers: await signedByAnother({ workspace, role: 'owner', sub: 'x' }) },
    { kind: 'a token of another issuer', headers: await signed({ workspace, iss: 'https://evil.example' }) },
    { kind: 'a token that claims to be ours', headers: await signed({ workspace, iss: publicUrl }) },
    { kind: 'a token for another audience', headers: await signed({ workspace, aud: 'other' }) },
    { kind: 'an expired token', headers: await signed({ workspace, iat: now - 900, exp: now - 600 }) },
    {
      kind: 'a service token of another audience',
      headers: await signed({ scope: 'assist:workspaces', aud: 'other' }),
    },
  ]
  const ofCaller = [
    { kind: 'the token of an owner of another workspace', headers: caller.acme.headers },
    { kind: 'a session of an owner of another workspace', headers: session },
    { kind: 'a session cookie of an owner of another workspace', headers: cookie },
    { kind: 'a directory token of another workspace', headers: ofDirectory(caller.directory) },
  ]
  const lesser = [
    { kind: 'the token of a viewer', headers: await bearer({ workspace, role: 'viewer' }) },
    { kind: 'the token of a member', headers: await bearer({ workspace, role: 'member' }) },
    { kind: 'a token with an unknown role', headers: await bearer({ workspace, role: 'root' }) },
    { kind: 'a session of a member', headers: await victim.startSession('ana') },
    { kind: 'the directory token of the workspace', headers: ofDirectory(victim.directory) },
    { kind: 'a token with a scope that only looks right', headers: await bearer({ scope: 'assist:workspacesX' }) },
  ]
  const people = [
    { kind: 'the token of an owner', headers: victim.acme.headers },
    { kind: 'a session of an owner', headers: await victim.startSession('olga') },
    { kind: 'a service token', headers: serviceHeaders },
    { kind: 'the token of another directory of the workspace', headers: ofDirectory(victim.sibling) },
  ]
  return {
    none: [...useless, ...ofCaller],
    session: [...useless, ...ofCaller],
    assist: [...useless, ...ofCaller, ...lesser],
    directory: [...useless, ...ofCaller, ...people],
  }
}

async function signed(claims: Record<string, unknown>): Promise<Headers> {
  return { authorization: `Bearer ${await signToken({ role: 'owner', sub: 'user-1', ...claims })}` }
}

async function signedByAnother(claims: Record<string, unknown>): Promise<Headers> {
  const { privateKey } = await generateKeyPair('ES256')
  const token = await new SignJWT({ iss: 'https://auth.assist.example', aud: 'assist-identity', ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'assist-test' })
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(privateKey)
  return { authorization: `Bearer ${token}` }
}

const ofDirectory = ({ token }: TestDirectory) => ({ authorization: `Bearer ${token}` })

const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')

function unsigned(claims: object): string {
  const exp = Math.floor(Date.now() / 1000) + 300
  const full = { iss: 'https://auth.assist.example', aud: 'assist-identity', exp, ...claims }
  return `${encode({ alg: 'none' })}.${encode(full)}.`
}
