import type { HttpBindings } from "@hono/node-server";
import type { Caller } from "./caller.ts";

/** What every handler of the hub's HTTP finds in its context. */
export interface HubEnv {
  Bindings: HttpBindings;
  Variables: { caller: Caller };
}
