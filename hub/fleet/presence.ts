import type { NodeName } from "../../shared/ids.ts";

/** One node's connection, for as long as it lasts. */
export interface Session {
  readonly serial: string;
  /** It has said `online: true` and was not refused. */
  online: boolean;
  /** It listens to its orders, so that an answer would arrive. */
  subscribed: boolean;
  /** Why the hub does not deal with it; null when it does. */
  refusal: string | null;
  /** The stream that its events count in, known after its first `state`. */
  stream: string | null;
  lastSeenMs: number;
  lastSeenStoredMs: number;
  /** Events that came beyond a gap during this connection: the second time says that nothing older is left. */
  readonly early: Set<number>;
}

/** Who is connected now. It lives in memory only: after a restart of the hub nobody is, until they come back. */
export class Presence {
  readonly #sessions = new Map<NodeName, Session>();

  connect(node: NodeName, serial: string, nowMs: number): Session {
    const session: Session = {
      serial,
      online: false,
      subscribed: false,
      refusal: null,
      stream: null,
      lastSeenMs: nowMs,
      lastSeenStoredMs: 0,
      early: new Set(),
    };
    this.#sessions.set(node, session);
    return session;
  }

  /** Forgets the session, unless a newer one has taken its place. */
  disconnect(node: NodeName, session: Session): void {
    if (this.#sessions.get(node) === session) this.#sessions.delete(node);
  }

  get(node: NodeName): Session | undefined {
    return this.#sessions.get(node);
  }

  online(): NodeName[] {
    return [...this.#sessions].filter(([, session]) => session.online).map(([node]) => node);
  }
}
