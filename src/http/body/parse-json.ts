import { isUtf8 } from 'node:buffer'
import { AppError } from '../../errors.ts'
import { inStretches } from '../../turns.ts'

/**
 * JSON from outside (RFC 8259). One scan of the bytes finds the structure without recursion and applies the limits; what it
 * has passed goes to JSON.parse in pieces, so that a large body does not hold the event loop. The scan needs to know only
 * strings and brackets: JSON.parse judges the rest.
 */

/** How deep objects and arrays may nest. */
export const MAX_JSON_DEPTH = 32
/** Of one string, number or stretch of whitespace, in bytes: longer than any attribute, however it is escaped. */
export const MAX_TOKEN_BYTES = 524_288
/** Of one object. */
export const MAX_OBJECT_KEYS = 2_000

/** Where the bytes or the values since the last cut exceed this, the next comma is a cut. */
const PIECE = { bytes: 32_768, values: 1_000 }
const SCAN_STEP_BYTES = 65_536
/** A body of this size is scanned and parsed within a few milliseconds, and so at once. */
export const SMALL_BODY_BYTES = 65_536

const [QUOTE, COMMA, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('",\\[]{}')

interface Level {
  isObject: boolean
  /** Of its bracket. */
  open: number
  /** Where the bytes begin that are not parsed yet, and how many values were counted before them. */
  start: number
  countedAt: number
  /** Where the member begins that is being scanned. */
  member: number
  commas: number
  /** What has been parsed of it; absent while none of it was cut. */
  parsed?: unknown[] | Record<string, unknown>
  /** A child that was cut has ended, and no comma followed yet. */
  afterChild: boolean
}

/**
 * Parses the body of a request. Of a key that is given twice the last value counts, as JSON.parse has it.
 * @param maxValues objects, arrays, strings, numbers and literals, keys not counted
 * @throws {AppError} `malformed_json`; `body_too_large` naming the limit that was exceeded
 */
export function parseJson(sent: Buffer, maxValues: number, piece = PIECE): unknown {
  requireUtf8(sent)
  const bytes = withoutMark(sent)
  if (isWithinLimits(bytes, maxValues)) return parse(bytes.toString())
  const steps = stepsOf(bytes, { maxValues, piece })
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
  }
}

/** The same in stretches, between which other requests have their turn. */
export async function parseLargeJson(sent: Buffer, maxValues: number): Promise<unknown> {
  requireUtf8(sent)
  return inStretches(stepsOf(withoutMark(sent), { maxValues, piece: PIECE }))
}

const SURELY_FEW_BYTES = 8_192

/** Whether so few bytes and brackets cannot exceed a limit, whatever they are: nearly every request needs no scan. */
function isWithinLimits(bytes: Buffer, maxValues: number): boolean {
  if (bytes.length > SURELY_FEW_BYTES || bytes.length > maxValues) return false
  let brackets = 0
  for (const byte of bytes) if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) brackets += 1
  return brackets <= MAX_JSON_DEPTH
}

/** .NET clients begin with a byte order mark, which RFC 8259 §8.1 lets a reader overlook. */
function withoutMark(bytes: Buffer): Buffer {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes
}

interface Scan {
  maxValues: number
  piece: { bytes: number; values: number }
}

function* stepsOf(bytes: Buffer, { maxValues, piece }: Scan): Generator<void, unknown> {
  const levels: Level[] = []
  const { length } = bytes
  let top: Level | undefined
  let root: Level['parsed']
  let rootEnd = 0
  let values = 1
  let stepEnd = SCAN_STEP_BYTES
  let tokenStart = 0
  let lastOpen = -1
  for (let at = 0; at < length; at++) {
    const byte = bytes[at]
    if (byte === QUOTE) {
      at = endOfString(bytes, at)
      lastOpen = -1
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (top?.afterChild || root !== undefined) throw malformed()
      if (levels.length >= MAX_JSON_DEPTH) throw tooDeep()
      values += 1
      top = {
        isObject: byte === OPEN_OBJECT,
        open: at,
        start: at + 1,
        countedAt: values,
        member: at + 1,
        commas: 0,
        afterChild: false,
      }
      levels.push(top)
      lastOpen = at
    } else if (byte === COMMA) {
      if (top === undefined) throw malformed()
      values += 1
      top.commas += 1
      if (top.isObject && top.commas >= MAX_OBJECT_KEYS) throw tooManyKeys()
      if (top.afterChild) {
        requireBlank(bytes, top.start, at)
        Object.assign(top, { afterChild: false, start: at + 1, countedAt: values })
      } else if (at - top.start >= piece.bytes || values - top.countedAt >= piece.values) {
        appendPiece(takeUp(bytes, levels), bytes, { start: top.start, end: at })
        Object.assign(top, { start: at + 1, countedAt: values })
        yield
      }
      top.member = at + 1
      lastOpen = -1
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      const closed = levels.pop()
      if (closed === undefined || closed.isObject !== (byte === CLOSE_OBJECT)) throw malformed()
      if (lastOpen >= 0) values -= 1
      lastOpen = -1
      top = levels.at(-1)
      if (closed.parsed !== undefined) {
        if (closed.afterChild) requireBlank(bytes, closed.start, at)
        else appendPiece(closed, bytes, { start: closed.start, end: at })
        if (top === undefined) {
          root = closed.parsed
          rootEnd = at + 1
        } else Object.assign(top, { afterChild: true, start: at + 1, countedAt: values })
        yield
      }
    } else {
      // Whitespace, or a part of a number or literal.
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) lastOpen = -1
      if (at - tokenStart > MAX_TOKEN_BYTES) throw tooLong()
      continue
    }
    tokenStart = at
    if (values - (lastOpen >= 0 ? 1 : 0) > maxValues) throw tooManyValues(maxValues)
    if (at >= stepEnd) {
      stepEnd = at + SCAN_STEP_BYTES
      yield
    }
  }
  if (levels.length > 0) throw malformed()
  if (root === undefined) return parse(bytes.toString())
  requireBlank(bytes, rootEnd, length)
  return root
}

/** The last byte of the string that begins at `from`. */
function endOfString(bytes: Buffer, from: number): number {
  const last = Math.min(bytes.length, from + MAX_TOKEN_BYTES + 2)
  for (let at = from + 1; at < last; at++) {
    const byte = bytes[at]
    if (byte === QUOTE) return at
    if (byte === BACKSLASH) at++
  }
  throw last === bytes.length ? malformed() : tooLong()
}

/**
 * Makes the value of every level that has none, outermost first, from what precedes the member that is being scanned.
 * @returns the innermost level
 */
function takeUp(bytes: Buffer, levels: readonly Level[]): Level & Required<Pick<Level, 'parsed'>> {
  let outer: Level | undefined
  for (const level of levels) {
    if (level.parsed === undefined) {
      level.parsed = level.isObject ? {} : []
      if (outer === undefined) requireBlank(bytes, 0, level.start - 1)
      else attach(bytes, outer, level)
    }
    outer = level
  }
  return outer as Level & Required<Pick<Level, 'parsed'>>
}

function attach(bytes: Buffer, outer: Level, { open, parsed }: Level): void {
  const { start, member, isObject } = outer
  if (member > start) appendPiece(outer, bytes, { start, end: member - 1 })
  const before = bytes.toString('utf8', member, open)
  if (isObject) {
    const [key = ''] = Object.keys(parse(`{${before} 0}`) as object)
    put(outer.parsed as Record<string, unknown>, key, parsed)
  } else {
    parse(`[${before} 0]`)
    ;(outer.parsed as unknown[]).push(parsed)
  }
}

function appendPiece({ isObject, parsed }: Level, bytes: Buffer, { start, end }: { start: number; end: number }): void {
  const text = bytes.toString('utf8', start, end)
  if (!isObject) {
    const part = parse(`[${text}]`) as unknown[]
    if (part.length === 0) throw malformed()
    for (const each of part) (parsed as unknown[]).push(each)
    return
  }
  const part = Object.entries(parse(`{${text}}`) as object)
  if (part.length === 0) throw malformed()
  for (const [key, value] of part) put(parsed as Record<string, unknown>, key, value)
}

/** Also where the key is `__proto__`, which JSON.parse takes for a key like any other. */
function put(object: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
}

function requireBlank(bytes: Buffer, start: number, end: number): void {
  if (!/^[ \t\n\r]*$/.test(bytes.toString('latin1', start, end))) throw malformed()
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw malformed(cause)
  }
}

/** Invalid bytes would become U+FFFD, so that two names that differ in one byte would be stored as one. */
function requireUtf8(bytes: Buffer): void {
  if (isUtf8(bytes)) return
  throw new AppError('malformed_json', 'The request body is not UTF-8 (RFC 8259 section 8.1). Encode it as UTF-8.')
}

function malformed(cause?: unknown): AppError {
  return new AppError('malformed_json', 'The request body is not valid JSON.', { cause })
}

function tooDeep(): AppError {
  const limit = `Objects and arrays nest at most ${MAX_JSON_DEPTH} deep`
  return new AppError('body_too_large', `${limit} in a request body. Send a flatter one.`)
}

function tooManyKeys(): AppError {
  return new AppError('body_too_large', `An object has at most ${MAX_OBJECT_KEYS} keys in a request body. Send fewer.`)
}

function tooManyValues(maxValues: number): AppError {
  return new AppError('body_too_large', `The request body has more than ${maxValues} values. Send several requests.`)
}

function tooLong(): AppError {
  const limit = `A string, number or stretch of whitespace has at most ${MAX_TOKEN_BYTES} bytes`
  return new AppError('body_too_large', `${limit} in a request body. Send a shorter one.`)
}
