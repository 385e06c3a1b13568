import type * as z from "zod";
import type { NodeName } from "../ids.ts";
import { LeaseMessage } from "./lease.ts";
import { UpdatesMessage } from "./updates.ts";
import { ConvergeMessage, EventMessage, FactsMessage, OrderMessage, StateMessage } from "./messages.ts";

/**
 * The one table of MQTT topics: who writes what, in which shape, retained or not. The agent's link is typed by it (an
 * agent that publishes an order does not compile), the broker's access rules are derived from it, and so is the Mosquitto
 * configuration for an outside broker.
 */
export const topics = {
  state: { writer: "node", retain: true, schema: StateMessage },
  converge: { writer: "node", retain: true, schema: ConvergeMessage },
  facts: { writer: "node", retain: true, schema: FactsMessage },
  lease: { writer: "node", retain: true, schema: LeaseMessage },
  updates: { writer: "node", retain: true, schema: UpdatesMessage },
  event: { writer: "node", retain: false, schema: EventMessage },
  orders: { writer: "hub", retain: false, schema: OrderMessage },
} as const;

export type Topics = typeof topics;
export type TopicName = keyof Topics;
export type WrittenBy<Writer extends "node" | "hub"> = { [T in TopicName]: Topics[T]["writer"] extends Writer ? T : never }[TopicName];
export type MessageOf<T extends TopicName> = z.output<Topics[T]["schema"]>;

/** `evenkeel/<cluster>/nodes/<node>/<what>`, and `evenkeel/<cluster>/orders/<node>`. */
export function topicOf(cluster: string, node: NodeName, what: TopicName): string {
  return what === "orders" ? `evenkeel/${cluster}/orders/${node}` : `evenkeel/${cluster}/nodes/${node}/${what}`;
}

/** Takes a topic apart again; null for everything that is not in the table. */
export function parseTopic(topic: string): { cluster: string; node: string; what: TopicName } | null {
  const [root, cluster, branch, node, what, ...rest] = topic.split("/");
  if (root !== "evenkeel" || cluster === undefined || node === undefined || rest.length > 0) return null;
  if (branch === "orders" && what === undefined) return { cluster, node, what: "orders" };
  if (branch !== "nodes" || what === undefined || what === "orders" || !(what in topics)) return null;
  return { cluster, node, what: what as TopicName };
}
