import { once } from "node:events";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { AddressInfo } from "node:net";
import { Aedes, type Client, type PublishPacket } from "aedes";
import type { Logger } from "pino";
import type { Clock } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import type { OrderMessage } from "../../shared/protocol/messages.ts";
import { topicOf } from "../../shared/protocol/topics.ts";
import type { Inbox } from "../fleet/inbox.ts";
import type { Session } from "../fleet/presence.ts";
import { serialOf, type Pki } from "../pki/authority.ts";
import type { Listen } from "../settings.ts";
import { judgePublish, maySubscribe, type PoisonReason } from "./access.ts";
import { Pace } from "./pace.ts";
import { PacketSizeGuard } from "./packet-size.ts";
import { PoisonCounts } from "./poison.ts";

/**
 * The embedded MQTT broker, over TLS. A client is a node: its certificate's name is its client id and decides over its
 * topics. A publish is acknowledged after the inbox has stored it, because aedes asks `authorizePublish` first.
 */
export interface Broker {
  readonly address: AddressInfo;
  readonly poison: PoisonCounts;
  /** To a node that is connected; lost otherwise, which is what orders may be. */
  send(node: NodeName, order: OrderMessage): void;
  /** Closes the node's connection, if there is one. */
  endSession(node: NodeName): void;
  stop(): Promise<void>;
}

/** A packet above this ends the connection; a body between the protocol's limit and this is dropped as poison. */
const packetSizeMaxBytes = 1024 * 1024;
const connectionsMax = 2_000;
const handshakeTimeoutMs = 10_000;
/** One reader that stopped holds the others up for as long (PROTOCOLS.md); the default of 60 s is too much. */
const drainTimeoutMs = 5_000;
const messagePace = { burst: 2_000, perSecond: 100 } as const;
const connectPace = { burst: 20, perSecond: 0.5 } as const;
/** Every so many of one kind are logged, the first one always. */
const poisonLogEvery = 1_000;

export interface BrokerParts {
  readonly listen: Listen;
  readonly cluster: string;
  readonly pki: Pki;
  readonly clock: Clock;
  readonly inbox: Inbox;
  /** Whether the hub issued this serial to this node and has not taken it back. */
  readonly certificateIsGood: (node: NodeName, serial: string) => Promise<boolean>;
  readonly log: Logger;
}

interface Peer {
  readonly node: NodeName;
  readonly serial: string;
  session: Session | null;
}

export async function startBroker(parts: BrokerParts): Promise<Broker> {
  const { cluster, clock, inbox, log } = parts;
  const poison = new PoisonCounts();
  const peers = new WeakMap<Client, Peer>();
  const connected = new Map<NodeName, Client>();
  const turns = new Map<NodeName, Promise<void>>();
  const paces = new Map<NodeName, { readonly message: Pace; readonly connect: Pace }>();

  const paceOf = (node: NodeName): { readonly message: Pace; readonly connect: Pace } => {
    const pace = paces.get(node) ?? { message: new Pace(clock, messagePace), connect: new Pace(clock, connectPace) };
    paces.set(node, pace);
    return pace;
  };

  /** One node's messages are taken one after the other, however the parser hands them out. */
  const inTurn = (node: NodeName, work: () => Promise<void>): Promise<void> => {
    const turn = (turns.get(node) ?? Promise.resolve()).then(work);
    const settled = turn.catch(() => {});
    turns.set(node, settled);
    void settled.then(() => turns.get(node) === settled && turns.delete(node));
    return turn;
  };

  const sink = (node: NodeName, packet: PublishPacket, reason: PoisonReason, detail: string): void => {
    const count = poison.add(node, reason);
    if (count % poisonLogEvery === 1) log.warn({ node, reason, detail, count, topic: packet.topic.slice(0, 200) }, "dropped a message that a node may not or cannot mean");
    packet.topic = `evenkeel/${cluster}/poison`;
    packet.payload = "";
    packet.retain = false;
  };

  const aedes = await Aedes.createBroker({
    concurrency: 200,
    drainTimeout: drainTimeoutMs,
    maxClientsIdLength: 64,
    maxTopicLevels: 8,
    connectTimeout: handshakeTimeoutMs,
    preConnect(client, packet, callback) {
      // Orders are sent again at hello: a queue for the absent would only grow.
      packet.clean = true;
      const peer = peerOf(client);
      if (peer !== null && packet.will !== undefined) {
        const verdict = judgePublish(cluster, peer.node, { ...packet.will, retain: packet.will.retain ?? false });
        if (!verdict.ok || verdict.body.what !== "state" || verdict.body.message.online) {
          delete packet.will;
          poison.add(peer.node, verdict.ok ? "wrong-shape" : verdict.reason);
          log.warn({ node: peer.node }, "ignored a last will that is not the node's own `online: false`");
        }
      }
      callback(null, true);
    },
    authenticate(client, _username, _password, done) {
      const peer = peerOf(client);
      const refuse = (message: string): void => {
        log.warn({ client: client.id.slice(0, 64), node: peer?.node }, `MQTT connection refused: ${message}`);
        // Answered as 5, not authorized: MQTT 3.1.1, table 3.1.
        done(null, false);
      };
      if (peer === null) return refuse("the certificate names no node");
      if (client.id !== peer.node) return refuse(`the client id must be the certificate's name, ${peer.node}`);
      if (!paceOf(peer.node).connect.admits()) return refuse("too many connections in a short time");
      parts.certificateIsGood(peer.node, peer.serial).then(
        (good) => {
          if (!good) return refuse("the certificate has been revoked or replaced");
          peer.session = inbox.connected(peer.node, peer.serial);
          peers.set(client, peer);
          done(null, true);
        },
        (error: unknown) => {
          log.error({ err: error, node: peer.node }, "could not look up a certificate");
          refuse("the certificate cannot be looked up now");
        },
      );
    },
    authorizePublish(client, packet, callback) {
      const peer = client === null ? undefined : peers.get(client);
      if (peer === undefined || peer.session === null) return callback(new Error("not authenticated"));
      const { node, session } = peer;
      const verdict = judgePublish(cluster, node, packet);
      if (!verdict.ok) {
        sink(node, packet, verdict.reason, verdict.detail);
        return callback(null);
      }
      const turnMs = paceOf(node).message.turnMs();
      const body = verdict.body;
      inTurn(node, async () => {
        const waitMs = turnMs - clock.monotonicMs();
        if (waitMs > 0) await new Promise<void>((resolve) => clock.after(waitMs, resolve));
        await inbox.take(node, session, body);
      }).then(
        () => callback(null),
        (error: unknown) => {
          // Not stored, so not acknowledged: the connection ends, and the node comes again with the same message.
          log.error({ err: error, node, what: body.what }, "could not store what a node said");
          callback(error as Error);
        },
      );
    },
    authorizeSubscribe(client, subscription, callback) {
      const peer = peers.get(client);
      if (peer !== undefined && maySubscribe(cluster, peer.node, subscription.topic)) return callback(null, subscription);
      log.warn({ node: peer?.node, filter: subscription.topic.slice(0, 200) }, "refused a subscription: a node may only listen to its own orders");
      callback(null, null);
    },
  });

  const later = (node: NodeName, work: () => Promise<void>): void => {
    inTurn(node, work).catch((error: unknown) => log.error({ err: error, node }, "could not store a change of connection"));
  };
  aedes.on("client", (client) => {
    const peer = peers.get(client);
    if (peer !== undefined) connected.set(peer.node, client);
  });
  aedes.on("subscribe", (subscriptions, client) => {
    const peer = peers.get(client);
    const session = peer?.session;
    if (peer === undefined || session == null) return;
    if (subscriptions.some(({ topic }) => maySubscribe(cluster, peer.node, topic))) later(peer.node, () => inbox.subscribed(peer.node, session));
  });
  aedes.on("ping", (_packet, client) => {
    const peer = peers.get(client);
    const session = peer?.session;
    if (peer !== undefined && session != null) later(peer.node, () => inbox.seen(peer.node, session));
  });
  aedes.on("clientDisconnect", (client) => {
    const peer = peers.get(client);
    const session = peer?.session;
    if (peer === undefined || session == null) return;
    if (connected.get(peer.node) === client) connected.delete(peer.node);
    later(peer.node, () => inbox.disconnected(peer.node, session));
  });
  for (const event of ["clientError", "connectionError"] as const) {
    aedes.on(event, (client, error) => log.debug({ node: client.id, err: error }, "an MQTT connection ended with an error"));
  }

  const server = await listen(parts, (socket) => aedes.handle(limited(socket)));
  return {
    address: server.address() as AddressInfo,
    poison,
    send(node, order) {
      const packet = { cmd: "publish", qos: 1, dup: false, retain: false, topic: topicOf(cluster, node, "orders"), payload: JSON.stringify(order) } as const;
      aedes.publish(packet, (error) => error && log.warn({ err: error, node }, "could not send an order"));
    },
    endSession(node) {
      connected.get(node)?.close();
    },
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await new Promise<void>((resolve) => aedes.close(() => resolve()));
      await closed;
      await Promise.all(turns.values());
    },
  };
}

async function listen({ listen: at, pki, log }: BrokerParts, handle: (socket: TLSSocket) => void): Promise<Server> {
  const context = () => ({ ...pki.server(), ca: pki.caPem });
  const server = createServer({ ...context(), requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2", handshakeTimeout: handshakeTimeoutMs }, (socket) => {
    socket.setKeepAlive(true, 30_000);
    socket.setNoDelay(true);
    handle(socket);
  });
  server.maxConnections = connectionsMax;
  server.on("tlsClientError", (error) => log.debug({ err: error }, "an MQTT connection failed its TLS handshake"));
  pki.onServerRenewed(() => server.setSecureContext(context()));
  server.listen(at.port, at.host);
  await once(server, "listening");
  return server;
}

/** aedes pulls with `read()`: whatever it gets has passed the guard. */
function limited(socket: TLSSocket): TLSSocket {
  const guard = new PacketSizeGuard(packetSizeMaxBytes);
  const read = socket.read.bind(socket);
  socket.read = (sizeBytes?: number) => {
    const chunk = read(sizeBytes) as Buffer | null;
    if (chunk === null || guard.accepts(chunk)) return chunk;
    socket.destroy(new Error(`an MQTT packet is larger than ${packetSizeMaxBytes} bytes`));
    return null;
  };
  return socket;
}

function peerOf(client: Client): Peer | null {
  const certificate = (client.conn as TLSSocket).getPeerCertificate();
  const name = NodeName.safeParse(certificate.subject?.CN);
  return name.success ? { node: name.data, serial: serialOf(certificate.serialNumber), session: null } : null;
}
