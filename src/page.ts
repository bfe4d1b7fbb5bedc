import { z } from 'zod'

/** `limit` and `after`, the same for every list of the admin API. */
export const pageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(500).default(50).meta({ description: 'Items at most, 1 to 500' }),
  after: z.string().min(1).max(200).optional().meta({ description: 'The `next` of the page before' }),
})

/** The same for lists whose cursor is the id of the last item. */
export const idPageQuery = pageQuery.extend({
  after: z.uuid('must be the `next` of a page').optional().meta({ description: 'The `next` of the page before' }),
})

export type PageQuery = z.output<typeof pageQuery>

export interface Page<Item> {
  items: Item[]
  /** Give it as `after` to get the next page; absent on the last one. */
  next?: string
}

/** The answer schema of a list of `item`. */
export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.object({
    items: z.array(item),
    next: z.string().optional().meta({ description: 'Give it as `after` for the next page; absent on the last one' }),
  })
}

/** Cuts one page out of rows that were read with `limit + 1`. */
export function toPage<Item>(rows: Item[], limit: number, cursor: (last: Item) => string): Page<Item> {
  if (rows.length <= limit) return { items: rows }
  const items = rows.slice(0, limit)
  return { items, next: cursor(items.at(-1) as Item) }
}
