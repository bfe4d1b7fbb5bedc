// Writes openapi.yaml from the routes' schemas: `npm run openapi`. Needs no database.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { buildApp } from '../src/app.ts'
import { readConfig } from '../src/config.ts'
import { openDatabase } from '../src/db/database.ts'
import { describeRoutes, openApiYaml } from './describe-routes.ts'

const config = readConfig({})
// Connects on first use, which never comes.
const db = openDatabase({ url: config.databaseUrl })
const assistKeys = async () => {
  throw new Error('Nobody calls the service that only describes itself.')
}
const logger = pino({ level: 'silent' })
const app = await buildApp({ config, db, logger, assistKeys, observer: describeRoutes })
await writeFile(join(import.meta.dirname, '../openapi.yaml'), await openApiYaml(app))
await app.close()
await db.destroy()
