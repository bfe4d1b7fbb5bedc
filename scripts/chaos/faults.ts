import { setTimeout as delay } from 'node:timers/promises'
import { runSql } from '../../tools/admin-sql.ts'
import type { PostgresServer } from './postgres-server.ts'
import type { Random } from './random.ts'
import type { Replicas } from './replicas.ts'
import { attachStandby, failOver } from './standby.ts'
import type { TcpProxy } from './tcp-proxy.ts'

/** All that can be hurt. A failover exchanges `primary` and `standby`. */
export interface Target {
  replicas: Replicas
  primary: PostgresServer
  standby: PostgresServer
  httpProxy: TcpProxy
  databaseProxy: TcpProxy
  random: Random
}

/** Each hurts something, waits, and repairs it. */
export const faults: Record<string, (target: Target) => Promise<void>> = {
  'replica killed': async ({ replicas, random }) => random.pick(replicas.all).end('SIGKILL'),
  'replica told to stop': async ({ replicas, random }) => random.pick(replicas.all).end('SIGTERM'),
  'all replicas told to stop': async ({ replicas }) => {
    await Promise.all(replicas.all.map(each => each.end('SIGTERM')))
  },
  'Postgres killed': async ({ primary, random }) => {
    await primary.kill()
    await delay(random.below(3_000))
    await primary.start()
  },
  'Postgres restarted': async ({ primary }) => {
    await primary.stop()
    await primary.start()
  },
  'Postgres frozen': async ({ primary, random }) => {
    await primary.freeze()
    await delay(1_000 + random.below(7_000))
    primary.thaw()
  },
  'Postgres read-only': async ({ primary, random }) => {
    await configure(primary, 'SET default_transaction_read_only = on')
    await delay(1_000 + random.below(3_000))
    await configure(primary, 'RESET default_transaction_read_only')
  },
  'disk full': async ({ primary, random }) => {
    await runSql(primary.url, 'UPDATE chaos.disk SET is_full = true')
    await delay(1_000 + random.below(3_000))
    await runSql(primary.url, 'UPDATE chaos.disk SET is_full = false')
  },
  'database connections cut': async ({ databaseProxy }) => void databaseProxy.cut(0.5),
  'client connections cut': async ({ httpProxy }) => void httpProxy.cut(0.5),
  failover: async target => {
    const { primary, standby, databaseProxy } = target
    databaseProxy.close()
    await failOver(primary, standby)
    Object.assign(target, { primary: standby, standby: primary })
    databaseProxy.open()
    await delay(3_000)
    await attachStandby(standby, primary)
  },
}

/** Makes `disk full` possible: a trigger that raises what Postgres raises when it cannot extend a table. */
export async function installDiskFault({ url }: PostgresServer): Promise<void> {
  await runSql(
    url,
    `CREATE SCHEMA chaos;
     CREATE TABLE chaos.disk (is_full boolean NOT NULL);
     INSERT INTO chaos.disk VALUES (false);
     CREATE FUNCTION chaos.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
       IF (SELECT is_full FROM chaos.disk) THEN
         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
       END IF;
       RETURN NULL;
     END $$;
     CREATE TRIGGER chaos_disk BEFORE INSERT ON activity_entries FOR EACH STATEMENT EXECUTE FUNCTION chaos.refuse()`,
  )
}

async function configure({ url }: PostgresServer, change: string): Promise<void> {
  await runSql(url, `ALTER SYSTEM ${change}`)
  await runSql(url, 'SELECT pg_reload_conf()')
}
