import { parseArgs } from 'node:util'
import type { ContenderName } from './contenders/contender.ts'

export interface Options {
  /** Sizes of the directory. Each has its own table of results. */
  users: number[]
  rounds: number
  /** Duration of each step in seconds. */
  seconds: number
  /** Names of workloads. Empty means all. */
  workloads: string[]
  members: number[]
  connections: number
  syncUsers: number
  contenders: ContenderName[]
  /** Folder for CPU profiles of the service, one per process. */
  profile: string | undefined
  /** File to which each measurement is appended as a JSON line. */
  json: string | undefined
}

export const usage = `npm run bench -- [options]

  --n 1000,100000         users in the directory; a table of results for each
  --rounds 3              rounds, each on fresh copies of the databases; results are medians
  --secs 2                duration of each step in seconds
  --w create,lookup       workloads (default: all): WORKLOADS
  --members 10,1000,50000 sizes of groups, at most 200 below the users
  --connections 8         requests in flight in steps on single users
  --sync 500              users of the initial sync
  --only floor|service    run only one of the servers
  --quick                 a smoke test of less than a minute; its figures are meaningless
  --profile FOLDER        write CPU profiles of the service
  --json FILE             append each measurement as a JSON line`

/** @throws {Error} names the invalid option */
export function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      n: { type: 'string' },
      rounds: { type: 'string' },
      secs: { type: 'string' },
      w: { type: 'string', default: '' },
      members: { type: 'string' },
      connections: { type: 'string', default: '8' },
      sync: { type: 'string' },
      only: { type: 'string', default: 'floor,service' },
      quick: { type: 'boolean', default: false },
      profile: { type: 'string' },
      json: { type: 'string' },
    },
  })
  const defaults = values.quick
    ? { n: '1000', rounds: '1', secs: '0.3', members: '10,800', sync: '100' }
    : { n: '1000,100000', rounds: '3', secs: '2', members: '10,1000,50000', sync: '500' }
  const users = numbers('n', values.n ?? defaults.n)
  if (users.some(each => each < 500)) throw new Error('--n: must be at least 500 users.')
  return {
    users,
    rounds: number('rounds', values.rounds ?? defaults.rounds),
    seconds: number('secs', values.secs ?? defaults.secs),
    workloads: list(values.w),
    members: numbers('members', values.members ?? defaults.members),
    connections: number('connections', values.connections),
    syncUsers: number('sync', values.sync ?? defaults.sync),
    contenders: list(values.only).map(contenderName),
    profile: values.profile,
    json: values.json,
  }
}

function list(text: string): string[] {
  return text.split(',').filter(item => item !== '')
}

function numbers(name: string, text: string): number[] {
  return list(text).map(item => number(name, item))
}

function number(name: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${name}: ${text} must be a number above 0.`)
  return value
}

function contenderName(name: string): ContenderName {
  if (name !== 'floor' && name !== 'service') throw new Error(`--only: ${name} must be floor or service.`)
  return name
}
