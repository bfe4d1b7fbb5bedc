import fc from 'fast-check'
import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { parseFilter, parsePath, printFilter } from '../../src/scim/protocol/filter.ts'
import type { Filter } from '../../src/scim/protocol/filter.ts'
import { sameJson } from '../../src/scim/protocol/patch/add.ts'

/** The tree without offsets, which say where things stood and not what they mean. */
function meaning(filter: Filter): unknown {
  return JSON.parse(JSON.stringify(filter, (key, value: unknown) => (key === 'offset' ? undefined : value)))
}

t.test('and binds tighter than or, not tighter than both, parentheses tightest', async t => {
  const readAs: [string, string][] = [
    ['a pr or b pr and c pr', 'a pr or (b pr and c pr)'],
    ['a pr and b pr or c pr', '(a pr and b pr) or c pr'],
    ['(a pr or b pr) and c pr', '(a pr or b pr) and c pr'],
    ['not (a pr) and b pr', 'not (a pr) and b pr'],
    ['NOT(a PR) OR b Eq "x"', 'not (a pr) or b eq "x"'],
  ]
  for (const [text, printed] of readAs) t.equal(printFilter(parseFilter(text)), printed, text)
})

t.test('every form of the grammar is read', async t => {
  const urn = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'
  t.match(parseFilter(`${urn}:manager.value eq "x"`), { attribute: `${urn}:manager.value`, value: 'x' })
  t.match(parseFilter('members.$ref pr'), { kind: 'present', attribute: 'members.$ref' })
  t.match(parseFilter('  a   eq\t"x"  '), { attribute: 'a', offset: 2 })
  t.match(parseFilter('emails[type eq "work" and not (value co "x")]'), { kind: 'values', attribute: 'emails' })
  t.equal(
    printFilter(parseFilter('emails[type eq "work"].value eq "x"')),
    'emails[type eq "work" and value eq "x"]',
    'the form that Entra sends',
  )
  const literals: [string, unknown][] = [
    ['"a \\"b\\" \\\\ \\u00e9"', 'a "b" \\ é'],
    ['"and (not) [or]"', 'and (not) [or]'],
    ['"\\u0000"', '\0'],
    ['-1.5e3', -1500],
    ['0', 0],
    ['TRUE', true],
    ['false', false],
    ['null', null],
  ]
  for (const [text, value] of literals) t.match(parseFilter(`a eq ${text}`), { value }, text)
})

t.test('an invalid filter is refused with its offset and the expected token', async t => {
  const faults: [string, number, RegExp][] = [
    ['', 0, /attribute name/],
    ['userName eq', 11, /value/],
    ['userName zz "a"', 9, /operator/],
    ['userName eq "abc', 12, /double quotes/],
    ['userName eq abc', 12, /double quotes/],
    ["userName eq 'abc'", 12, /double quotes/],
    ['userName eq "a\\q"', 12, /JSON escapes/],
    ['userName eq "a\0"', 12, /control characters/],
    ['userName eq 01', 12, /value/],
    ['userName eq 1e999', 12, /number/],
    ['userName pr trailing', 12, /end of the filter/],
    ['(userName pr) "x"', 14, /end of the filter/],
    ['(userName pr', 12, /\)/],
    ['emails[type eq "x"', 18, /\]/],
    ['emails[emails[type pr]]', 13, /operator/],
    ['emails[type pr].', 16, /attribute name/],
    ['userName eq "x" and', 19, /attribute name/],
    ['not userName pr', 4, /operator/],
    ['userName pr) or (userName pr', 11, /end of the filter/],
  ]
  for (const [text, offset, expected] of faults) {
    t.throws(() => parseFilter(text), { code: 'scim_invalid_filter', message: new RegExp(`offset ${offset}: `) }, text)
    t.throws(() => parseFilter(text), { message: expected }, text)
  }
})

t.test('a message about a filter never repeats its values', async t => {
  t.throws(() => parseFilter('emails eq "ann@example.com" and and'), { message: /^(?!.*ann)/ })
})

const comparisons = (count: number) => Array.from({ length: count }, () => 'a pr').join(' or ')
const nested = (depth: number) => `${'('.repeat(depth)}a pr${')'.repeat(depth)}`
const long = (length: number) => `a eq "${'x'.repeat(length - 7)}"`

t.test('length, number of comparisons and depth are bounded, and the bound itself is allowed', async t => {
  for (const text of [comparisons(64), nested(32), long(4096)]) t.ok(parseFilter(text))
  for (const text of [comparisons(65), nested(33), nested(1500), long(4097), `${'not ('.repeat(400)}a pr`]) {
    t.throws(() => parseFilter(text), { code: 'scim_invalid_filter', message: /offset \d+/ })
  }
})

t.test('paths are read with the same names and filters', async t => {
  t.same(parsePath('name.familyName'), { attribute: 'name.familyName' })
  t.match(parsePath('Members[Value EQ "1"]'), { attribute: 'Members', filter: { attribute: 'Value', operator: 'eq' } })
  t.match(parsePath('emails[type eq "work"].value'), { attribute: 'emails', subAttribute: 'value' })
  for (const text of ['', 'emails[type eq "work"', 'emails[type eq', 'a b', 'a[b pr]c', '[a pr]', 'a[b pr].']) {
    t.throws(() => parsePath(text), { code: 'scim_invalid_path', message: /offset \d+/ }, text)
  }
})

const name = fc.constantFrom('a', 'userName', 'name.givenName', 'urn:x:2.0:User:b', '$ref')
const literal = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.boolean(),
  fc.constant(null),
  fc.integer(),
  fc.double({ noDefaultInfinity: true, noNaN: true }).map(x => x + 0),
)
const operator = fc.constantFrom('eq', 'ne', 'co', 'sw', 'ew', 'gt', 'ge', 'lt', 'le')
const leaf = fc.oneof(
  fc.record({ kind: fc.constant('compare'), attribute: name, operator, value: literal, offset: fc.constant(0) }),
  fc.record({ kind: fc.constant('present'), attribute: name, offset: fc.constant(0) }),
) as fc.Arbitrary<Filter>
const { tree } = fc.letrec<{ tree: Filter }>(tie => ({
  tree: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.record({
      kind: fc.constantFrom('and', 'or'),
      operands: fc.array(tie('tree'), { minLength: 2, maxLength: 3 }),
    }) as fc.Arbitrary<Filter>,
    tie('tree').map((operand): Filter => ({ kind: 'not', operand })),
    fc.tuple(name, leaf).map(([attribute, filter]): Filter => ({ kind: 'values', attribute, filter, offset: 0 })),
  ),
}))

t.test('a printed filter parses to the same tree', async () => {
  fc.assert(
    fc.property(tree, filter => {
      const text = printFilter(filter)
      fc.pre(text.length <= 4096)
      return sameJson(meaning(parseFilter(text)), meaning(filter))
    }),
    { numRuns: 200 },
  )
})

t.test('any text is parsed or refused as a filter, and never causes another error', async () => {
  const piece = fc.constantFrom(
    'a',
    ' eq ',
    '"x"',
    '(',
    ')',
    '[',
    ']',
    ' and ',
    ' or ',
    'not ',
    ' pr',
    '.',
    '\\',
    '"',
    '1',
    'null',
    '\0',
    '\ud800',
  )
  const text = fc.oneof(
    fc.array(piece, { maxLength: 30 }).map(pieces => pieces.join('')),
    fc.string(),
  )
  fc.assert(
    fc.property(text, sample => {
      try {
        parseFilter(sample)
        return true
      } catch (error) {
        return error instanceof AppError && error.code === 'scim_invalid_filter'
      }
    }),
    { numRuns: 500 },
  )
})
