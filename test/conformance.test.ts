import { readFileSync } from 'node:fs'
import t from 'tap'
import { idsOf, pagePath, proofsOf, readSentences, writePage } from '../tools/conformance-page.ts'
import { profiles } from '../tools/conformance-rows.ts'

const sentences = readSentences()
const rows = profiles.flatMap(profile => profile.rows)
const page = readFileSync(pagePath, 'utf8')

t.test('each row of a profile is there once, and one that passes has a test', async t => {
  t.equal(new Set(rows.map(row => row.id)).size, rows.length)
  for (const row of rows) {
    if (row.here === 'pass') t.ok(proofsOf(row, sentences).length > 0, `${row.id} passes, by which test?`)
    else t.ok(row.note, `${row.id} says why`)
    for (const text of row.heldBy ?? []) {
      t.ok(
        sentences.some(sentence => sentence.text === text),
        `${row.id} names a test that is not there: ${text}`,
      )
    }
  }
})

t.test('a test that begins with the id of a row has that row', async t => {
  for (const sentence of sentences) {
    for (const id of idsOf(sentence))
      t.ok(
        rows.some(row => row.id === id),
        `${id} of ${sentence.file}`,
      )
  }
})

t.test('the page is what the rows and the tests say: `npm run conformance` writes it', async t => {
  t.equal(page, writePage(page))
})

t.test('every promise that the page quotes is one of the file that it links', async t => {
  const quotes = page.matchAll(/\]\(\.\.\/(test\/[^)]+)\)((?:,? “[^”]+”)+)/g)
  for (const [, file, texts] of quotes) {
    for (const [, text] of texts?.matchAll(/“([^”]+)”/g) ?? []) {
      t.ok(
        sentences.some(sentence => sentence.file === file && sentence.text === text?.replaceAll(/\s+/g, ' ')),
        `${file} has no “${text}”`,
      )
    }
  }
})
