// `npm run docs`: writes docs/providers from the guides of the API, and draws docs/pictures from their texts.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { drawPictures, folder as pictures } from '../tools/pictures.ts'
import { folder as providers, providerPages } from '../tools/provider-pages.ts'

await mkdir(providers, { recursive: true })
for (const [name, page] of providerPages()) await writeFile(join(providers, name), page)
for (const [name, svg] of await drawPictures()) await writeFile(join(pictures, name), svg)
