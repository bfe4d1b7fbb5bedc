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
