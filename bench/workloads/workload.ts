import type { Measurement, Session } from '../measure.ts'

export interface WorkloadOptions {
  /** Requests in flight in steps on single users. */
  connections: number
  /** Sizes of groups. */
  members: number[]
  /** Users of the initial sync. */
  syncUsers: number
}

/**
 * Yields a measurement after each step, so that several sessions can take turns. A temporary disturbance of the machine then
 * affects all of them.
 */
export type Workload = (session: Session, options: WorkloadOptions) => AsyncGenerator<Measurement, void>
