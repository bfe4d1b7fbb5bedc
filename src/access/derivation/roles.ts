import type { Actor } from '../../actor.ts'
import { AppError } from '../../errors.ts'

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

/**
 * The highest role that what an actor sets may speak for, where it decides who somebody is: their own.
 * @returns null: every role, for owners and back-ends of Assist
 */
export function roleLimitOf(roles: readonly string[], actor: Actor): string | null {
  if (actor.type === 'service' || actor.role === roles.at(-1)) return null
  return actor.role ?? roles[0] ?? null
}

/** Whether a role is above what a limit allows. */
export function isAbove(roles: readonly string[], role: string, limit: string | null): boolean {
  return limit !== null && roles.indexOf(role) > roles.indexOf(limit)
}

/** What was set by somebody below a role cannot speak for it until somebody who has it says so. */
export function notConfirmed({
  memberId,
  role,
  by,
}: {
  memberId?: string
  role: string
  by: 'sso_config' | 'directory'
}): AppError {
  const save = by === 'directory' ? 'PATCH …/directories/{directoryId}' : 'PATCH …/sso-config'
  return new AppError(
    'sso_not_confirmed',
    by === 'directory'
      ? `An owner has to confirm the directory first, by saving it (${save}): somebody below them has made it, or a token of it.`
      : `An owner has to confirm how people sign in first, by saving it (${save}): somebody below them has set it up.`,
    {
      detail: {
        ...(memberId !== undefined && { memberId }),
        role,
        by,
        fix: `It was set up by somebody below the role ${role}, and names nobody for that role until somebody who has it saves it (${save}; an empty change will do). Who has the role can also link their own account by a sign-in test (POST …/sso-config/sign-in-tests/{id}/link).`,
      },
    },
  )
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
