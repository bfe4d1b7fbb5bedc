// `npm run openapi`: writes openapi.yaml from the routes' schemas. Needs no database.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { buildApp } from '../src/app.ts'
import { readConfig } from '../src/config.ts'
import { openDatabase } from '../src/db/database.ts'
import { describeRoutes, openApiYaml } from './describe-routes.ts'

const config = readConfig({})
// Never connects, because it connects on first use and this script sends no statement.
const db = openDatabase({ url: config.databaseUrl })
const assistKeys = async () => {
  throw new Error('This app serves no requests.')
}
const logger = pino({ level: 'silent' })
const app = await buildApp({ config, db, logger, assistKeys, observer: describeRoutes })
await writeFile(join(import.meta.dirname, '../openapi.yaml'), await openApiYaml(app))
await app.close()
await db.destroy()
