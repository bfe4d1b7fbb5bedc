import { randomFillSync } from 'node:crypto'

let lastMillisecond = 0
let sequence = 0
const bytes = Buffer.alloc(16)
// Drawn for many ids at once: a draw costs two microseconds however small it is, and every request has an id.
const random = Buffer.alloc(8 * 512)
let used = random.length

/**
 * A UUID version 7 (RFC 9562 section 5.7): milliseconds, a counter within the millisecond, 62 random bits. Ids of one
 * process grow strictly, so a primary key that ends in one is append-only and is the paging order too.
 */
export function uuid7(): string {
  const now = Math.max(Date.now(), lastMillisecond)
  sequence = now === lastMillisecond ? sequence + 1 : 0
  // More than 4,096 ids in a millisecond: borrow the next one.
  lastMillisecond = sequence > 0xfff ? now + 1 : now
  if (sequence > 0xfff) sequence = 0
  if (used === random.length) {
    randomFillSync(random)
    used = 0
  }
  random.copy(bytes, 8, used, used + 8)
  used += 8
  bytes.writeUIntBE(lastMillisecond, 0, 6)
  bytes.writeUInt16BE(0x7000 | sequence, 6)
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Is this text a UUID: what is none cannot be one of our ids, and must not reach Postgres as one. */
export function isUuid(text: string): boolean {
  return uuid.test(text)
}
