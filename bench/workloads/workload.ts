import type { Measurement, Session } from '../measure.ts'

export interface WorkloadOptions {
  /** Requests in flight in the steps about single users. */
  connections: number
  /** Sizes of the groups worked on. */
  members: number[]
  /** Users of the initial sync. */
  syncUsers: number
}

/**
 * A workload gives a measurement after each of its steps. Several sessions can so take turns step by step, and what
 * disturbs the machine for a while disturbs them all.
 */
export type Workload = (session: Session, options: WorkloadOptions) => AsyncGenerator<Measurement, void>
