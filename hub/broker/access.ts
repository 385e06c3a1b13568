import type { NodeName } from "../../shared/ids.ts";
import { BODY_SIZE_MAX_BYTES } from "../../shared/protocol/messages.ts";
import { parseTopic, topicOf, topics } from "../../shared/protocol/topics.ts";
import type { NodeMessage } from "../fleet/inbox.ts";

/** What may pass, derived from the one table of topics. Pure: the broker acts on it. */

/** Why a publish is poison: fixed words, they are counted by it. */
export const POISON_REASONS = ["unknown-topic", "foreign-cluster", "foreign-node", "not-writer", "retain-flag", "too-large", "not-json", "wrong-shape"] as const;
export type PoisonReason = (typeof POISON_REASONS)[number];

export type Judgement = { readonly ok: true; readonly body: NodeMessage } | { readonly ok: false; readonly reason: PoisonReason; readonly detail: string };

/** What a node publishes: accepted only on a topic of its own that nodes write, in the table's shape. */
export function judgePublish(cluster: string, node: NodeName, packet: { readonly topic: string; readonly payload: string | Buffer; readonly retain: boolean }): Judgement {
  const topic = parseTopic(packet.topic);
  if (topic === null) return poison("unknown-topic", `${quote(packet.topic)} is not in the table of topics`);
  if (topic.cluster !== cluster) return poison("foreign-cluster", `the cluster here is ${cluster}, not ${quote(topic.cluster)}`);
  const entry = topics[topic.what];
  if (entry.writer !== "node") return poison("not-writer", `only the hub writes ${topic.what}`);
  if (topic.node !== node) return poison("foreign-node", `${node} may not write for ${quote(topic.node)}`);
  if (packet.retain !== entry.retain) return poison("retain-flag", `${topic.what} must ${entry.retain ? "" : "not "}be retained`);
  const sizeBytes = Buffer.byteLength(packet.payload);
  if (sizeBytes > BODY_SIZE_MAX_BYTES) return poison("too-large", `${sizeBytes} bytes, at most ${BODY_SIZE_MAX_BYTES}`);
  let json: unknown;
  try {
    json = JSON.parse(packet.payload.toString());
  } catch (error) {
    return poison("not-json", (error as Error).message);
  }
  const result = entry.schema.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    return poison("wrong-shape", issue === undefined ? "" : `${issue.path.join(".") || "(top)"}: ${issue.message}`);
  }
  // The schema is the one of `what`: the table says so, the type checker cannot.
  return { ok: true, body: { what: topic.what, message: result.data } as NodeMessage };
}

/** A node may listen to its own orders, and to nothing else. */
export function maySubscribe(cluster: string, node: NodeName, filter: string): boolean {
  return filter === topicOf(cluster, node, "orders");
}

function poison(reason: PoisonReason, detail: string): Judgement {
  return { ok: false, reason, detail: detail.slice(0, 300) };
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}
