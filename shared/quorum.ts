/**
 * The arithmetic of "fewer than half": how many members of a group may be down at once because of us.
 */

export interface GroupLimits {
  /** How many members the repository lists, never how many happen to be online. */
  readonly size: number;
  /** Can only tighten. */
  readonly maxUnavailable?: number | undefined;
  /** The owner's word that a group of one or two may lose a member. */
  readonly acceptOutage: boolean;
}

/** 0 of 1, 0 of 2, 1 of 3, 1 of 4, 2 of 5 …: the largest number that is smaller than half. With `acceptOutage`, 1 of 1 and 1 of 2. */
export function allowedDown({ size, maxUnavailable, acceptOutage }: GroupLimits): number {
  const byQuorum = size <= 2 && size > 0 && acceptOutage ? 1 : Math.max(0, Math.ceil(size / 2) - 1);
  return Math.min(byQuorum, maxUnavailable ?? byQuorum);
}
