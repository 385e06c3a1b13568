import type { StepResult } from "../host/host.ts";

/**
 * What puts a change back when the agent is not there to do it: a timer of systemd's, and a unit that runs early at boot.
 * Real in systemd-fuse.ts.
 */
export interface Fuse {
  /** From now on the record of this id is put back after `limitMs`, and at the next boot, unless it is gone by then. */
  arm(id: string, limitMs: number): Promise<StepResult>;
  disarm(id: string): Promise<void>;
}
