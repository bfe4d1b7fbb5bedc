import { AppError } from '../../errors.ts'

/**
 * Filters (RFC 7644 §3.4.2.2) and PATCH paths (§3.5.2) as trees. Knows the grammar but no attributes: the code that
 * uses the tree resolves the names.
 */

/** `eq null` asks whether a value is absent, as a null is no value (RFC 7643 §2.5). */
export type Literal = string | number | boolean | null

const operators = ['eq', 'ne', 'co', 'sw', 'ew', 'gt', 'ge', 'lt', 'le'] as const
export type Operator = (typeof operators)[number]

export interface Comparison {
  kind: 'compare'
  attribute: string
  operator: Operator
  value: Literal
  /** Offset of the attribute in the text, from 0, for error messages. */
  offset: number
}

export interface Presence {
  kind: 'present'
  attribute: string
  offset: number
}

/** `emails[type eq "work"]`: one and the same value of the attribute meets the whole filter. */
export interface ValueFilter {
  kind: 'values'
  attribute: string
  filter: Filter
  offset: number
}

export type Filter =
  | Comparison
  | Presence
  | ValueFilter
  | { kind: 'and' | 'or'; operands: readonly Filter[] }
  | { kind: 'not'; operand: Filter }

/** `emails[type eq "work"].value`: attribute `emails`, a filter, sub-attribute `value`. */
export interface Path {
  attribute: string
  filter?: Filter
  subAttribute?: string
}

export const MAX_FILTER_LENGTH = 4096
export const MAX_FILTER_TERMS = 64
export const MAX_FILTER_DEPTH = 32

/**
 * Parses a filter. Names, operators and the words true, false and null compare without case; `and` binds tighter than
 * `or`, `not` tighter than both. `emails[type eq "work"].value eq "x"`, which Entra sends, is read as
 * `emails[type eq "work" and value eq "x"]`.
 * @param text at most 4,096 characters, 64 comparisons, nested at most 32 deep
 * @throws {AppError} `scim_invalid_filter`, naming what was expected at which offset, counted from 0
 */
export function parseFilter(text: string): Filter {
  const reader = startReading(text, { what: 'filter', code: 'scim_invalid_filter' })
  const filter = readAlternatives(reader)
  skipSpace(reader)
  if (reader.at < text.length) throw fault(reader, 'and, or, or the end of the filter')
  return filter
}

/**
 * Parses the path of a PATCH operation.
 * @param text at most 4,096 characters
 * @throws {AppError} `scim_invalid_path`, naming what was expected at which offset, counted from 0
 */
export function parsePath(text: string): Path {
  const reader = startReading(text, { what: 'path', code: 'scim_invalid_path' })
  skipSpace(reader)
  const path: Path = { attribute: readName(reader) }
  skipSpace(reader)
  if (take(reader, '[')) {
    path.filter = readBracketed(reader)
    if (take(reader, '.')) path.subAttribute = readName(reader)
  }
  skipSpace(reader)
  if (reader.at < text.length) throw fault(reader, 'the end of the path')
  return path
}

/** Writes a filter as text that parses to the same tree. */
export function printFilter(filter: Filter): string {
  switch (filter.kind) {
    case 'and':
    case 'or':
      return filter.operands.map(printOperand).join(` ${filter.kind} `)
    case 'not':
      return `not (${printFilter(filter.operand)})`
    case 'values':
      return `${filter.attribute}[${printFilter(filter.filter)}]`
    case 'present':
      return `${filter.attribute} pr`
    case 'compare':
      return `${filter.attribute} ${filter.operator} ${JSON.stringify(filter.value)}`
  }
}

function printOperand(filter: Filter): string {
  return filter.kind === 'and' || filter.kind === 'or' ? `(${printFilter(filter)})` : printFilter(filter)
}

interface Reader {
  text: string
  at: number
  terms: number
  depth: number
  /** Inside brackets, which do not nest. */
  bracketed: boolean
  what: 'filter' | 'path'
  code: 'scim_invalid_filter' | 'scim_invalid_path'
}

function startReading(text: string, { what, code }: Pick<Reader, 'what' | 'code'>): Reader {
  if (text.length > MAX_FILTER_LENGTH) {
    const excess = `A ${what} has at most ${MAX_FILTER_LENGTH} characters; this one exceeds that at offset`
    throw new AppError(code, `${excess} ${MAX_FILTER_LENGTH}.`)
  }
  return { text, at: 0, terms: 0, depth: 0, bracketed: false, what, code }
}

function readAlternatives(reader: Reader): Filter {
  return readChain(reader, 'or', readConjunction)
}

function readConjunction(reader: Reader): Filter {
  return readChain(reader, 'and', readTerm)
}

function readChain(reader: Reader, kind: 'and' | 'or', readOperand: (reader: Reader) => Filter): Filter {
  const first = readOperand(reader)
  const operands = [first]
  while (takeWord(reader, kind)) operands.push(readOperand(reader))
  return operands.length === 1 ? first : { kind, operands }
}

function readTerm(reader: Reader): Filter {
  skipSpace(reader)
  if (take(reader, '(')) return readNested(reader, ')')
  const offset = reader.at
  const name = readName(reader)
  skipSpace(reader)
  if (name.toLowerCase() === 'not' && take(reader, '(')) return { kind: 'not', operand: readNested(reader, ')') }
  if (!reader.bracketed && take(reader, '[')) return readValueFilter(reader, { attribute: name, offset })
  return readExpression(reader, { attribute: name, offset })
}

function readValueFilter(reader: Reader, { attribute, offset }: { attribute: string; offset: number }): Filter {
  const filter = readBracketed(reader)
  const subOffset = reader.at + 1
  if (!take(reader, '.')) return { kind: 'values', attribute, filter, offset }
  const comparison = readExpression(reader, { attribute: readName(reader), offset: subOffset })
  return { kind: 'values', attribute, filter: { kind: 'and', operands: [filter, comparison] }, offset }
}

function readBracketed(reader: Reader): Filter {
  reader.bracketed = true
  const filter = readNested(reader, ']')
  reader.bracketed = false
  return filter
}

function readNested(reader: Reader, close: ')' | ']'): Filter {
  reader.depth += 1
  if (reader.depth > MAX_FILTER_DEPTH) throw fault(reader, `at most ${MAX_FILTER_DEPTH} levels of brackets`)
  const filter = readAlternatives(reader)
  skipSpace(reader)
  if (!take(reader, close)) throw fault(reader, `and, or, or ${close}`)
  reader.depth -= 1
  return filter
}

function readExpression(reader: Reader, subject: { attribute: string; offset: number }): Comparison | Presence {
  reader.terms += 1
  if (reader.terms > MAX_FILTER_TERMS) throw fault(reader, `at most ${MAX_FILTER_TERMS} comparisons`, subject.offset)
  if (takeWord(reader, 'pr')) return { kind: 'present', ...subject }
  const operator = operators.find(word => takeWord(reader, word))
  if (operator === undefined) throw fault(reader, 'an operator: eq, ne, co, sw, ew, gt, ge, lt, le or pr')
  skipSpace(reader)
  return { kind: 'compare', ...subject, operator, value: readLiteral(reader) }
}

const NAME = /[A-Za-z$][\w$.:-]*/y
const STRING = /"(?:[^"\\]|\\.)*"/y
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])/y
const SPACE = /\s*/y

function readName(reader: Reader): string {
  const name = match(reader, NAME)
  if (name === undefined) throw fault(reader, 'an attribute name')
  return name
}

function readLiteral(reader: Reader): Literal {
  const offset = reader.at
  const quoted = match(reader, STRING)
  if (quoted !== undefined) return unquote(reader, quoted, offset)
  const number = match(reader, NUMBER)
  if (number !== undefined) return readNumber(reader, number, offset)
  for (const [word, value] of [
    ['true', true],
    ['false', false],
    ['null', null],
  ] as const) {
    if (takeWord(reader, word)) return value
  }
  throw fault(reader, 'a value: text in double quotes, a number, true, false or null')
}

function readNumber(reader: Reader, digits: string, offset: number): number {
  const number = Number(digits)
  if (!Number.isFinite(number)) throw fault(reader, 'a number within the range of a double', offset)
  return number
}

function unquote(reader: Reader, quoted: string, offset: number): string {
  try {
    return JSON.parse(quoted) as string
  } catch (cause) {
    throw fault(reader, 'text with JSON escapes and no control characters', offset, cause)
  }
}

function takeWord(reader: Reader, word: string): boolean {
  skipSpace(reader)
  const end = reader.at + word.length
  if (reader.text.slice(reader.at, end).toLowerCase() !== word) return false
  if (/[\w$.:-]/.test(reader.text.charAt(end))) return false
  reader.at = end
  return true
}

function take(reader: Reader, symbol: string): boolean {
  if (reader.text[reader.at] !== symbol) return false
  reader.at += 1
  return true
}

function skipSpace(reader: Reader): void {
  match(reader, SPACE)
}

function match(reader: Reader, pattern: RegExp): string | undefined {
  pattern.lastIndex = reader.at
  const found = pattern.exec(reader.text)?.[0]
  reader.at += found?.length ?? 0
  return found
}

// Names the offset but does not quote the text because it may contain an e-mail address.
function fault(reader: Reader, expected: string, offset = reader.at, cause?: unknown): AppError {
  return new AppError(reader.code, `The ${reader.what} is not valid at offset ${offset}: expected ${expected}.`, {
    cause,
  })
}
