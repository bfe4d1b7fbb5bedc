/**
 * What is known of one thing that a writer has changed. A request without a reply leaves two possible outcomes, so each
 * field holds every value that is allowed afterwards.
 */
export interface Fact {
  /** The name that is unique in its list. */
  key: string
  /** Known once a creation was acknowledged. */
  id?: string
  created: 'yes' | 'maybe'
  deleted: 'no' | 'yes' | 'maybe'
  names: Set<string>
  active: Set<boolean>
}

export interface Facts {
  users: Fact[]
  scimGroups: Fact[]
  groups: Fact[]
  /** Sessions that a browser holds: their ids and their cookies. */
  sessions: { id: string; cookie: string }[]
  /** Ids of activity entries that a reader has seen. */
  entries: Set<string>
  /** Acknowledged writes. */
  acknowledged: number
}

export function createFacts(): Facts {
  return { users: [], scimGroups: [], groups: [], sessions: [], entries: new Set(), acknowledged: 0 }
}

export function newFact(key: string, name: string): Fact {
  return { key, created: 'maybe', deleted: 'no', names: new Set([name]), active: new Set([true]) }
}
