import { z } from 'zod'
import { idPageQuery, pageOf } from '../../page.ts'
import { effects } from '../derivation/preview.ts'

/** How previews of any change are asked for and answered. */

const role = z.string().meta({ description: "One of this deployment's roles", example: 'member' })
const groups = z.array(z.object({ id: z.uuid(), name: z.string() }))

/** Why a member has the role that they have. */
export const roleReason = z
  .object({
    by: z.enum(['locked', 'floor', 'mapping', 'default', 'last_owner']).meta({
      description: 'A role given by hand, mappings, the default role, or that there is no other owner',
    }),
    mappingIds: z.array(z.uuid()).meta({ description: 'The mappings that give this very role' }),
  })
  .meta({ id: 'RoleReason' })

const roleAndReason = z.object({ role, why: roleReason })

const previewedMember = z
  .object({
    memberId: z.uuid(),
    email: z.string().nullable(),
    displayName: z.string().nullable(),
    status: z.enum(['invited', 'active', 'deactivated']),
    effect: z.enum(effects).meta({ description: 'changes: gains something and loses something else' }),
    before: roleAndReason,
    after: roleAndReason,
    groupsGained: groups,
    groupsLost: groups,
    groupsKept: groups,
  })
  .meta({ id: 'PreviewedMember' })

const count = z.int32()

export const accessPreview = pageOf(previewedMember)
  .extend({
    version: z.string().meta({ description: 'Give it as `previewVersion` when applying the change' }),
    totals: z.object({ gains: count, loses: count, changes: count, keeps: count }),
    lastOwners: count.meta({ description: 'Owners whom the workspace cannot lose: applying the change is refused' }),
  })
  .meta({ id: 'AccessPreview' })

export const previewQuery = idPageQuery.extend({
  effect: z.enum(effects).optional().meta({ description: 'Only members on whom it has this effect' }),
})

/** In the body of a change that can be previewed. */
export const previewVersion = z.string().max(64).optional().meta({
  description: 'The `version` of a preview: refuses with `preview_stale` where the change does something else by now',
})
