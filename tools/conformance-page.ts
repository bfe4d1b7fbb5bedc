import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { profiles, type Profile, type Row } from './conformance-rows.ts'

const root = join(import.meta.dirname, '..')
export const pagePath = join(root, 'docs/conformance.md')

const begin = '<!-- From here to the end of the mark `npm run conformance` writes, from tools/conformance-rows.ts. -->'
const end = '<!-- The end of the mark. -->'

export interface Sentence {
  text: string
  /** From the root of the project. */
  file: string
}

/** Returns every string literal of the test files, which includes the test names. */
export function readSentences(): Sentence[] {
  const files = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  return files
    .filter(file => file.endsWith('.test.ts'))
    .toSorted()
    .flatMap(file => {
      const source = readFileSync(join(root, 'test', file), 'utf8')
      const texts = source.matchAll(/'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"/g)
      return [...texts].map(([, single, double]) => ({
        text: (single ?? double ?? '').replaceAll(/\\(.)/g, '$1'),
        file: `test/${file}`,
      }))
    })
}

/** Returns the ids with which a sentence starts, as in `IP-5, AL-16: …`. */
export function idsOf({ text }: Sentence): string[] {
  const [, ids] = /^([A-Z]{2}-\d+(?:, [A-Z]{2}-\d+)*): /.exec(text) ?? []
  return ids?.match(/[A-Z]{2}-\d+/g) ?? []
}

/** Returns the tests of a row. */
export function proofsOf(row: Row, sentences: readonly Sentence[]): Sentence[] {
  const named = (row.heldBy ?? []).flatMap(text => sentences.filter(sentence => sentence.text === text).slice(0, 1))
  return [...sentences.filter(sentence => idsOf(sentence).includes(row.id)), ...named]
}

/** Returns the page with its marked part generated. The rest, about sign-in, is written by hand. */
export function writePage(page: string): string {
  const sentences = readSentences()
  const [before] = page.split(begin)
  const after = page.split(end)[1] ?? ''
  const marked = profiles.map(profile => section(profile, sentences)).join('\n')
  return `${(before ?? '').trimEnd()}\n\n${begin}\n\n${marked}\n${end}\n${after.trimStart() === '' ? '' : `\n${after.trimStart()}`}`
}

function section({ title, rows }: Profile, sentences: readonly Sentence[]): string {
  const lines = rows.map(row => {
    const { id, level, asks, here, note } = row
    const proofs = proofsOf(row, sentences).map(
      ({ text, file }) => `[${basename(file, '.test.ts')}](../${file}) “${text}”`,
    )
    return `| ${id} | ${level} | ${asks} | ${note === undefined ? here : `${here}: ${note}`} | ${proofs.join(', ')} |`
  })
  return `## ${title}\n\n| row | level | asks | here | held by |\n| --- | --- | --- | --- | --- |\n${lines.join('\n')}\n`
}
