// `npm run docs`: writes docs/providers from the guides of the API and docs/sql from the named statements, and draws
// docs/pictures from their text files.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { drawPictures, folder as pictures } from '../tools/pictures.ts'
import { folder as providers, providerPages } from '../tools/provider-pages.ts'
import { folder as statements, statementPages } from '../tools/statement-pages.ts'

await mkdir(providers, { recursive: true })
for (const [name, page] of providerPages()) await writeFile(join(providers, name), page)
await rm(statements, { recursive: true, force: true })
await mkdir(statements, { recursive: true })
for (const [name, page] of statementPages()) await writeFile(join(statements, name), page)
for (const [name, svg] of await drawPictures()) await writeFile(join(pictures, name), svg)
