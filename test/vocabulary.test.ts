import { join } from 'node:path'
import t from 'tap'
import { findHits, patterns, pending, places } from '../tools/vocabulary.ts'

const root = join(import.meta.dirname, '..')

t.test('no document, comment, message or test name uses a word of the list in tools/vocabulary.ts', async t => {
  const hits = (await Promise.all(places.map(async place => findHits(root, place)))).flat()
  t.same(
    hits.filter(({ place }) => !isPending(place)),
    [],
  )
})

t.test('each pattern of the vocabulary finds a sentence that uses it', async t => {
  const dialect =
    'Whoever begins anew and whatever is none of this list, that of whoever goes by it, speaks for it, stands for it, ' +
    'comes back as it, is told and is asked; nothing but a thing beside it of its own at its end, so it is said for good. ' +
    'It is there. There is no POST here. It holds against it, lets go of it by an act of its own.'
  for (const { words } of patterns) t.match(dialect, words)
})

function isPending(place: string): boolean {
  return pending.some(path => place.startsWith(path))
}
