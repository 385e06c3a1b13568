import { readFile } from "node:fs/promises";
import mqtt from "mqtt";
import type { MqttClient } from "mqtt";
import type { Clock, Timer } from "../../shared/clock.ts";
import { OrderMessage } from "../../shared/protocol/messages.ts";
import { topicOf, topics } from "../../shared/protocol/topics.ts";
import type { MessageOf, WrittenBy } from "../../shared/protocol/topics.ts";
import { authorityPath, certificatePath, keyPath } from "../settings.ts";
import type { Places, Settings } from "../settings.ts";
import type { Spool } from "./spool.ts";

type Retained = Exclude<WrittenBy<"node">, "event">;

export interface LinkEvents {
  /** The broker has let us in; what is retained has been sent again. */
  connected(): void;
  disconnected(reason: string): void;
  order(order: OrderMessage): void;
}

/** Wait between two attempts to connect, grown up to the maximum, each shortened by chance so that nodes do not come at once. */
const RECONNECT_MIN_MS = 500;
const RECONNECT_MAX_MS = 10_000;
const CONNECT_TIMEOUT_MS = 15_000;
/** The broker calls us gone after one and a half times as long (MQTT 3.1.1, 3.1.2.10). */
const KEEPALIVE_SECONDS = 20;
/** Events under way without the hub's acknowledgement. */
const WINDOW_EVENTS = 20;
/** When an acknowledgement does not come, everything from the oldest on is sent again. */
const ACK_TIMEOUT_MS = 20_000;

/** The node's connection to the broker: what the node says, retained or spooled, and the orders it gets. It decides nothing. */
export class Link {
  readonly #places: Places;
  readonly #settings: Settings;
  readonly #spool: Spool;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #events: LinkEvents;
  readonly #retained = new Map<Retained, object>();
  #client: MqttClient | null = null;
  #stopped = false;
  #attempts = 0;
  /** Sent and not acknowledged yet, up to this sequence number. */
  #sentSeq = 0;
  #sending = false;
  /** The hub has said that it takes nothing from this node, in this connection. */
  #refused = false;
  #lastAckMs = 0;
  #ackTimer: Timer | null = null;

  constructor(parts: { readonly places: Places; readonly settings: Settings; readonly spool: Spool; readonly clock: Clock; readonly random: () => number; readonly events: LinkEvents }) {
    this.#places = parts.places;
    this.#settings = parts.settings;
    this.#spool = parts.spool;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#events = parts.events;
  }

  get connected(): boolean {
    return this.#client?.connected ?? false;
  }

  /** Keeps trying for ever; the agent works without it. */
  start(): void {
    void this.#connect();
  }

  /** Reads keys and certificates anew and connects again: after a renewal. */
  reconnect(): void {
    this.#client?.end(true);
  }

  /** What everybody may know about this node: sent now, and again whenever the broker may have forgotten. */
  publish<T extends Retained>(what: T, message: MessageOf<T>): void {
    this.#retained.set(what, message);
    this.#send(what, message);
  }

  /** There is something new in the spool. */
  flush(): void {
    // What cannot be read now is still on disk, and sent with the next.
    void this.#sendEvents().catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const client = this.#client;
    if (client === null) return;
    if (client.connected) this.#send("state", { v: 1, online: false });
    await Promise.race([client.endAsync(), new Promise<void>((resolve) => this.#clock.after(2_000, resolve))]);
  }

  async #connect(): Promise<void> {
    const broker = this.#settings.broker;
    if (this.#stopped || broker === null) return;
    try {
      const [key, cert, ca] = await Promise.all([keyPath, certificatePath, authorityPath].map((path) => readFile(path(this.#places))));
      const client = mqtt.connect({
        protocol: "mqtts",
        host: broker.host,
        port: broker.port,
        clientId: this.#settings.node,
        protocolVersion: 4,
        clean: true,
        keepalive: KEEPALIVE_SECONDS,
        connectTimeout: CONNECT_TIMEOUT_MS,
        reconnectPeriod: 0,
        queueQoSZero: false,
        rejectUnauthorized: true,
        key,
        cert,
        ca,
        will: { topic: this.#topic("state"), payload: Buffer.from(JSON.stringify({ v: 1, online: false })), qos: 1, retain: true },
      } as Parameters<typeof mqtt.connect>[0] & object);
      this.#client = client;
      this.#listen(client);
    } catch (error) {
      this.#events.disconnected(`cannot read the node's certificate: ${String(error)}`);
      this.#again();
    }
  }

  #listen(client: MqttClient): void {
    let reason = "the connection was closed";
    client.on("connect", () => {
      this.#attempts = 0;
      client.subscribe(topicOf(this.#settings.cluster, this.#settings.node, "orders"), { qos: 1 }, (error) => {
        if (error) {
          client.end(true);
          return;
        }
        for (const [what, message] of this.#retained) this.#send(what, message);
        this.#sentSeq = 0;
        this.#refused = false;
        this.#events.connected();
        this.flush();
      });
    });
    client.on("message", (_topic, payload) => this.#receive(payload));
    client.on("error", (error) => {
      reason = error.message || (error as NodeJS.ErrnoException).code || String(error);
      client.end(true);
    });
    client.once("close", () => {
      if (this.#client === client) this.#client = null;
      client.removeAllListeners();
      // A socket that dies late must not take the process with it.
      client.on("error", () => {});
      client.end(true);
      this.#events.disconnected(reason);
      this.#again();
    });
  }

  #again(): void {
    if (this.#stopped) return;
    const waitMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** this.#attempts) * (0.5 + this.#random() / 2);
    this.#attempts = Math.min(this.#attempts + 1, 10);
    this.#clock.after(waitMs, () => void this.#connect());
  }

  #receive(payload: Buffer): void {
    let order: OrderMessage;
    try {
      order = OrderMessage.parse(JSON.parse(payload.toString("utf8")));
    } catch {
      // Not for this version of ours, or damaged: an order is a hint, and nothing is lost without it.
      return;
    }
    if (order.kind === "ack") {
      this.#lastAckMs = this.#clock.monotonicMs();
      void this.#spool.acknowledge(order.stream, order.seq).then(() => this.#sendEvents()).catch(() => {});
      return;
    }
    if (order.kind === "refused") {
      this.#refused = true;
      this.#ackTimer?.cancel();
    }
    this.#events.order(order);
  }

  async #sendEvents(): Promise<void> {
    if (this.#sending || this.#refused || !this.connected) return;
    this.#sending = true;
    try {
      const messages = await this.#spool.after(this.#sentSeq, WINDOW_EVENTS);
      for (const message of messages) {
        this.#send("event", message);
        this.#sentSeq = message.seq;
      }
      if (messages.length > 0) this.#watchAcks();
    } finally {
      this.#sending = false;
    }
  }

  #watchAcks(): void {
    const sentMs = this.#clock.monotonicMs();
    this.#ackTimer?.cancel();
    this.#ackTimer = this.#clock.after(ACK_TIMEOUT_MS, () => {
      if (this.#spool.size === 0 || this.#lastAckMs > sentMs || !this.connected) return;
      this.#sentSeq = 0;
      this.flush();
    });
  }

  #send(what: WrittenBy<"node">, message: object): void {
    if (!this.connected) return;
    this.#client?.publish(this.#topic(what), JSON.stringify(message), { qos: 1, retain: topics[what].retain });
  }

  #topic(what: WrittenBy<"node">): string {
    return topicOf(this.#settings.cluster, this.#settings.node, what);
  }
}
