// `npm run conformance`: writes the SCIM part of docs/conformance.md from the rows and their tests.
import { readFile, writeFile } from 'node:fs/promises'
import { pagePath, writePage } from '../tools/conformance-page.ts'

await writeFile(pagePath, writePage(await readFile(pagePath, 'utf8')))
