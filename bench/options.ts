import { parseArgs } from 'node:util'
import type { ContenderName } from './contenders/contender.ts'

export interface Options {
  /** Sizes of the directory, a table of results for each. */
  users: number[]
  rounds: number
  /** Seconds that a step is measured for. */
  seconds: number
  /** Names of workloads; all, where none is given. */
  workloads: string[]
  members: number[]
  connections: number
  syncUsers: number
  contenders: ContenderName[]
  /** A folder for CPU profiles of the service, one for each of its processes. */
  profile: string | undefined
  /** A file for every measurement, a JSON line each. */
  json: string | undefined
}

export const usage = `npm run bench -- [options]

  --n 1000,100000         users in the directory; a table of results for each
  --rounds 3              rounds, each on fresh copies of the databases; results are medians
  --secs 2                seconds that each step is measured for
  --w create,lookup       workloads; all unless named: WORKLOADS
  --members 10,1000,50000 sizes of groups, at most 200 below the users
  --connections 8         requests in flight in the steps about single users
  --sync 500              users of the initial sync
  --only limit|service    run one alone
  --quick                 a smoke run of less than a minute: its figures mean nothing
  --profile FOLDER        write CPU profiles of the service
  --json FILE             write every measurement, a JSON line each`

/** @throws {Error} naming the option that cannot be understood */
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
      only: { type: 'string', default: 'limit,service' },
      quick: { type: 'boolean', default: false },
      profile: { type: 'string' },
      json: { type: 'string' },
    },
  })
  const defaults = values.quick
    ? { n: '1000', rounds: '1', secs: '0.3', members: '10,800', sync: '100' }
    : { n: '1000,100000', rounds: '3', secs: '2', members: '10,1000,50000', sync: '500' }
  const users = numbers('n', values.n ?? defaults.n)
  if (users.some(each => each < 500)) throw new Error('--n: at least 500 users are needed.')
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
  if (!(value > 0)) throw new Error(`--${name}: ${text} is not a number above 0.`)
  return value
}

function contenderName(name: string): ContenderName {
  if (name !== 'limit' && name !== 'service') throw new Error(`--only: ${name} is neither limit nor service.`)
  return name
}
