import type { Actor } from '../actor.ts'
import { AppError } from '../errors.ts'

/**
 * Lets nobody hand out more than they have: admins do not make owners.
 * @param roles of the configuration, lowest first
 * @throws {AppError} `role_unknown`, `role_above_own`
 */
export function checkGrantable(roles: readonly string[], role: string, actor: Actor): void {
  if (!roles.includes(role)) {
    throw new AppError('role_unknown', `There is no role ${role}. Choose one of ${roles.join(', ')}.`)
  }
  if (isWithinReach(roles, role, actor)) return
  throw new AppError(
    'role_above_own',
    `The role ${role} is above your own, ${actor.role}. Ask somebody who has it to give it.`,
  )
}

/**
 * Lets nobody act on those above them: admins do not change, deactivate or unlink owners.
 * @throws {AppError} `role_above_own`
 */
export function checkOutranked(roles: readonly string[], role: string, actor: Actor): void {
  if (isWithinReach(roles, role, actor)) return
  throw new AppError('role_above_own', `This concerns the role ${role}, which is above your own, ${actor.role}.`)
}

function isWithinReach(roles: readonly string[], role: string, actor: Actor): boolean {
  return actor.type === 'service' || roles.indexOf(role) <= roles.indexOf(actor.role ?? '')
}

/** What decides a member's role, and by which mappings where it is them. */
export interface RoleReason {
  by: 'locked' | 'floor' | 'mapping' | 'default' | 'last_owner'
  /** Of the mappings that give this very role; several can. */
  mappingIds: string[]
}

export interface RoleSources {
  /** The roles of the configuration, lowest first. */
  roles: readonly string[]
  role: string
  rules: readonly { id: string; role: string | null }[]
  manual: { role: string; policy: 'floor' | 'locked' } | null
  defaultRole: string
}

/**
 * Says which source decides a role, by the rule of derive.ts. A source that gives as much as the one that decides is not
 * named, save other mappings: a floor is only what lifts a role above all else.
 */
export function roleReason({ roles, role, rules, manual, defaultRole }: RoleSources): RoleReason {
  if (manual?.policy === 'locked') return { by: 'locked', mappingIds: [] }
  const giving = rules.filter(rule => rule.role !== null && roles.includes(rule.role))
  const rank = (each: string | null | undefined) => roles.indexOf(each ?? '')
  const highest = Math.max(...giving.map(rule => rank(rule.role)), -1)
  const base = giving.length > 0 ? highest : rank(defaultRole)
  if (manual && rank(manual.role) > base) return { by: 'floor', mappingIds: [] }
  // Kept by what recomputeAccess does for the last owner, and not written down as a floor yet.
  if (rank(role) > base) return { by: 'last_owner', mappingIds: [] }
  if (giving.length === 0) return { by: 'default', mappingIds: [] }
  return { by: 'mapping', mappingIds: giving.filter(rule => rank(rule.role) === highest).map(rule => rule.id) }
}
