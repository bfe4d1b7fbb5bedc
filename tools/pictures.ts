// Draws the sequence diagrams of docs/pictures from text files. `npm run docs` writes them.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

export const folder = join(import.meta.dirname, '../docs/pictures')

const column = 240
const margin = 130
const row = 34
const top = 96

interface Message {
  from: number
  to: number
  text: string
}

/**
 * Draws a sequence diagram as SVG that follows the reader's colour scheme.
 * @param text a line `title: …`, a line `participants: A | B`, then lines `A -> B: text`
 * @throws {Error} names the invalid line
 */
export function drawSequence(text: string): string {
  const lines = text.split('\n').filter(line => line.trim() !== '')
  const title = readField(lines[0], 'title')
  const names = readField(lines[1], 'participants').split(' | ')
  const messages = lines.slice(2).map(line => readMessage(line, names))
  const width = column * (names.length - 1) + 2 * margin
  const height = top + messages.length * row + 20
  const x = (index: number) => margin + index * column
  const heads = names.map(
    (name, index) => `<line class="life" x1="${x(index)}" y1="64" x2="${x(index)}" y2="${height - 10}"/>
<rect class="head" x="${x(index) - 85}" y="34" width="170" height="30" rx="6"/>
<text class="name" x="${x(index)}" y="54">${escapeXml(name)}</text>`,
  )
  const arrows = messages.map(({ from, to, text: label }, index) => {
    const y = top + index * row + 12
    const tip = x(to) + (to > from ? -2 : 2)
    return `<line class="arrow" x1="${x(from)}" y1="${y}" x2="${tip}" y2="${y}" marker-end="url(#tip)"/>
<text x="${(x(from) + x(to)) / 2}" y="${y - 6}">${escapeXml(label)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeXml(title)}">
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
.title { font-size: 15px; font-weight: 600 }
.name { font-weight: 600 }
.head { fill: #eef2f7; stroke: #8c959f }
.life { stroke: #8c959f; stroke-dasharray: 3 4 }
.arrow { stroke: #0969da; stroke-width: 1.4 }
.tip { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .head { fill: #21262d } .arrow { stroke: #4493f8 } .tip { fill: #4493f8 }
}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>
<text class="title" x="${width / 2}" y="20">${escapeXml(title)}</text>
${[...heads, ...arrows].join('\n')}
</svg>
`
}

function readField(line: string | undefined, name: string): string {
  if (!line?.startsWith(`${name}: `)) throw new Error(`Expected a line "${name}: …", found: ${line ?? 'the end'}`)
  return line.slice(name.length + 2).trim()
}

function readMessage(line: string, names: readonly string[]): Message {
  const [, from = '', to = '', text = ''] = /^(.+?) -> (.+?): (.+)$/.exec(line) ?? []
  const message = { from: names.indexOf(from), to: names.indexOf(to), text }
  if (message.from === -1 || message.to === -1) throw new Error(`Expected "A -> B: text" between participants: ${line}`)
  return message
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}

/** Returns the SVG texts by file name. */
export async function drawPictures(): Promise<Map<string, string>> {
  const names = (await readdir(folder)).filter(name => name.endsWith('.txt')).toSorted()
  const drawn = names.map(async name => {
    return [name.replace('.txt', '.svg'), drawSequence(await readFile(join(folder, name), 'utf8'))] as const
  })
  return new Map(await Promise.all(drawn))
}
