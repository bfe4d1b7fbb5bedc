import { sql } from 'kysely'
import { recordActivity } from '../../activity/activity.ts'
import { isUniqueViolation, type Db, type Trx } from '../../db/database.ts'
import type { Email } from '../../members/email.ts'
import type { SignInConfig } from '../../sso/config/sso-config.ts'
import { isVouchedFor, type LinkingRules, type Person } from './linking.ts'

export interface AddressChange {
  memberId: string
  emailKey: string | null
  person: Person
  signInConfig: SignInConfig
  rules: LinkingRules
  requestId: string
}

/**
 * Follows the address that the provider now gives a member it has long known. The address is contact data by then: one
 * that is not vouched for, or that a directory is in charge of, changes nothing, and one that another member has stays
 * theirs, with an entry that says so.
 */
export async function followAddress(db: Db, change: AddressChange): Promise<void> {
  const { memberId, emailKey, person, signInConfig, rules, requestId } = change
  const { email } = person
  if (!email || email.key === emailKey || !isVouchedFor(person, { config: signInConfig, rules })) return
  const { workspaceId } = signInConfig
  const actor = { type: 'member', id: memberId, requestId } as const
  const entry = { workspaceId, actor, memberId, target: { type: 'member', id: memberId } }
  await db
    .transaction()
    .execute(async trx => {
      const changed = await changeAddress(trx, { workspaceId, memberId, email })
      if (changed) await recordActivity(trx, { ...entry, action: 'member.email_changed', detail: { by: 'sso' } })
    })
    .catch(async (error: unknown) => {
      if (!isUniqueViolation(error, 'members_email')) throw error
      await db.transaction().execute(trx =>
        recordActivity(trx, {
          ...entry,
          action: 'member.email_conflict',
          detail: { email: email.text, kept: 'own' },
        }),
      )
    })
}

async function changeAddress(
  trx: Trx,
  { workspaceId, memberId, email }: { workspaceId: string; memberId: string; email: Email },
): Promise<boolean> {
  const changed = await trx
    .updateTable('members')
    .set({ email: email.text, email_key: email.key, version: sql`version + 1`, updated_at: sql`now()` })
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', memberId)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('scim_users')
            .select('id')
            .whereRef('scim_users.workspace_id', '=', 'members.workspace_id')
            .whereRef('scim_users.member_id', '=', 'members.id'),
        ),
      ),
    )
    .executeTakeFirst()
  return changed.numUpdatedRows > 0n
}
