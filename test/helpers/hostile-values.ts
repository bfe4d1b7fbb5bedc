import fc from 'fast-check'
import type { HostileValues } from './schema-values.ts'

/** Part of the texts that hostile requests send, so that a test can look for them in the log. */
export const sentMarker = 'q9sent'

const attributes = [
  'userName',
  'emails',
  'emails.value',
  'emails[type eq "work"].value',
  'name.familyName',
  'active',
  'members',
]
const operators = ['eq', 'ne', 'co', 'sw', 'ew', 'gt', 'ge', 'lt', 'le', 'pr', 'xx', '']
const operands = [
  `"${sentMarker}"`,
  '"a\\u0000b"',
  '"\\ud800"',
  'true',
  'null',
  '1e400',
  '99999999999999999999',
  '"',
  '""',
  "'",
]

const comparison = fc
  .tuple(
    fc.constantFrom(...attributes, 'meta.created', 'nothing', 'urn:x:y', ''),
    fc.constantFrom(...operators),
    fc.constantFrom(...operands),
  )
  .map(parts => parts.join(' ').trim())

const nestedFilter = fc
  .tuple(comparison, fc.constantFrom(0, 1, 31, 33, 2_000), fc.constantFrom('(', 'not (', 'emails[', '((('))
  .map(([inner, depth, open]) => `${open.repeat(depth)}${inner}${')'.repeat(depth)}`)

const joinedFilter = fc
  .tuple(fc.array(comparison, { minLength: 1, maxLength: 5 }), fc.constantFrom(' and ', ' or ', ' AND not ', '&&'))
  .map(([parts, operator]) => parts.join(operator))

/** Texts in the languages of SCIM, right and nearly right, by the name of the property or parameter. */
export const scimTexts: Record<string, fc.Arbitrary<string>> = {
  filter: fc.oneof(comparison, joinedFilter, nestedFilter),
  path: fc.oneof(
    fc.constantFrom(
      ...attributes,
      'members[value eq "x"]',
      '/Users',
      '/Groups/bulkId:a',
      '/Users/bulkId:a?x',
      'emails[',
      '$ref',
      '__proto__',
    ),
    nestedFilter,
  ),
  sortBy: fc.constantFrom(...attributes, '__proto__', 'constructor', ''),
  attributes: fc.constantFrom(...attributes, ',,,', 'userName,'.repeat(500), 'constructor'),
  method: fc.constantFrom('POST', 'PUT', 'PATCH', 'DELETE', 'GET', 'post', '__proto__'),
  cursor: fc.constantFrom('', 'AAAA', sentMarker, '%00'),
}

/** JSON that is sent as it stands. */
export class RawJson {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** A value of `depth` levels, as text because building it for JSON.stringify would overflow the stack of the test. */
function nested(depth: number, [open, close]: readonly [string, string]): RawJson {
  return new RawJson(`${open.repeat(depth)}1${close.repeat(depth)}`)
}

/** JSON can carry these texts, and Postgres cannot store them. */
export const unstorableTexts = fc.constantFrom('\0', `${sentMarker}\0`, 'a\0b', '\ud800', `${sentMarker}\udfff`)

/** Values that break software: at the edges of types, columns, encodings, parsers and languages. */
const texts = fc.oneof(
  unstorableTexts,
  fc.constantFrom(
    '',
    ' ',
    '\u202e',
    'İ',
    'ß',
    '\u{1f9ea}',
    'e\u0301',
    '\r\nX-Injected: 1',
    '%',
    '_',
    '\\',
    '"',
    "' OR 1=1 --",
  ),
  fc.constantFrom(
    '${7*7}',
    '../../etc/passwd',
    'javascript:alert(1)',
    '<script>',
    'constructor',
    '__proto__',
    'toString',
  ),
  fc.constantFrom(
    '0000-00-00T00:00:00Z',
    '294277-01-01T00:00:00Z',
    '-infinity',
    '2026-02-30T00:00:00Z',
    '0001-01-01T00:00:00+14:00',
  ),
  fc.constantFrom(
    'NaN',
    '9'.repeat(400),
    '00000000-0000-0000-0000-000000000000',
    'http://[::1',
    'https://127.0.0.1',
    `${sentMarker}@`,
  ),
  fc.constantFrom(255, 1_024, 8_193, 70_000).map(length => `${sentMarker}${'a'.repeat(length)}`),
  fc.string({ unit: 'binary', maxLength: 30 }),
)

const numbers = fc.constantFrom<unknown>(
  -1,
  -0,
  0.5,
  32_768,
  2 ** 31,
  3_000_000_000,
  2 ** 32,
  2 ** 53,
  2 ** 63,
  -(2 ** 63),
  1e308,
  new RawJson('1e400'),
  new RawJson('-0'),
  new RawJson('123456789012345678901234567890'),
)

const others = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    0,
    '',
    [],
    {},
    [[]],
    [null],
    [{}],
    ['a', 'a'],
    new RawJson('{"a":1,"a":2}'),
    new RawJson('{"__proto__":{"admin":true}}'),
  ),
  fc.constantFrom(nested(40, ['[', ']']), nested(5_000, ['[', ']']), nested(5_000, ['{"a":', '}'])),
  fc.jsonValue({ maxDepth: 3 }),
  texts,
)

export const hostileValues: HostileValues = { texts, numbers, others }

/** JSON of a value that may hold RawJson. */
export function toJson(value: unknown): string {
  const raw: string[] = []
  const text = JSON.stringify(value, (_key, each: unknown) => {
    if (!(each instanceof RawJson)) return each
    raw.push(each.text)
    return `\u0001raw${raw.length - 1}\u0001`
  })
  return (text ?? 'null').replaceAll(/"\\u0001raw(\d+)\\u0001"/g, (_match, index: string) => raw[Number(index)]!)
}

const mediaTypes = [
  'application/json',
  'application/scim+json',
  'application/x-www-form-urlencoded',
  'text/plain',
  'application/json; charset=utf-16',
  'multipart/form-data; boundary=x',
  '',
  'application/json;;;',
  'APPLICATION/JSON',
  'application/problem+json',
]

/** Bodies that no schema describes, with the media type that they claim. */
export const rawBodies: fc.Arbitrary<{ mediaType: string; bytes: Buffer }> = fc.record({
  mediaType: fc.constantFrom(...mediaTypes),
  bytes: fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map(each => Buffer.from(each)),
    fc
      .constantFrom(
        '',
        '{',
        '[',
        '"',
        '{"a":',
        '{"a":1}}',
        'null',
        'true',
        '[]',
        '\ufeff{}',
        '{"a":1,}',
        "{'a':1}",
        'a=1&a=2&__proto__[x]=1',
        '%',
        `{"email":"${sentMarker}@example.com"`,
        '\u0000',
        '{"a":"\\ud800"}',
        '{"a":"\\u0000"}',
        '[1e999]',
        '{"\\u0000":1}',
      )
      .map(each => Buffer.from(each)),
    fc.constantFrom(1_000, 100_000).map(depth => Buffer.from('['.repeat(depth))),
    fc.constantFrom(1_000, 100_000).map(depth => Buffer.from(`${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`)),
    fc.constant(Buffer.from(`[${'{},'.repeat(60_000)}{}]`)),
  ),
})

/** Headers beyond the credential, one or none. */
export const hostileHeaders: fc.Arbitrary<Record<string, string>> = fc.constantFrom<Record<string, string>>(
  {},
  {},
  {},
  { 'if-match': 'W/"99999999999999999999"' },
  { 'if-match': '*' },
  { 'if-none-match': '"' },
  { origin: 'null' },
  { origin: 'https://evil.example' },
  { cookie: `assist-session=${sentMarker}; __Host-assist-session="; =; ;;` },
  { 'x-forwarded-for': `${sentMarker}, 999.999.999.999` },
  { 'x-forwarded-host': 'evil.example' },
  { 'accept-encoding': '*;q=x' },
  { accept: 'text/html, */*;q=x' },
  { 'content-encoding': 'gzip' },
  { range: 'bytes=0-18446744073709551615' },
  { host: 'evil.example:99999' },
  { 'content-length': '3' },
  { expect: '200-maybe' },
  { cookie: 'a'.repeat(8_000) },
)

/** What may stand in a path where an id belongs. */
export const hostileSegments: fc.Arbitrary<string> = fc.constantFrom(
  '%00',
  '%ff',
  '%',
  '%ud800',
  '..',
  '.',
  '%2e%2e%2f',
  sentMarker,
  'a'.repeat(256),
  'a'.repeat(3_000),
  '0',
  '-1',
  'null',
  '00000000-0000-0000-0000-000000000000',
  '%C0%AF',
  ';',
  ':',
  '*',
  '%F0%9F%A7%AA',
  'constructor',
  '__proto__',
  "'",
  '%20',
  '%0d%0aX: 1',
)
