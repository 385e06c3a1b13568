import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Guest } from "../qemu/guest.ts";

/**
 * The network of a Debian with a kernel of its own: bonds, VLANs, bridges and WireGuard, cards whose cables are pulled, and a true
 * reboot. The machine is emulated, so that this takes minutes: it runs when EVENKEEL_QEMU is set.
 */

const timeout = 15 * 60_000;
const asked = process.env["EVENKEEL_QEMU"] !== undefined;
/** a1 and a2 are the node's, each on a cable to the other side; a3's cable hangs in the air. */
const cards = [
  { id: "a1", cable: 1 },
  { id: "a2", cable: 2 },
  { id: "a3", cable: 3 },
  { id: "b1", cable: 1 },
  { id: "b2", cable: 2 },
] as const;
type Card = (typeof cards)[number]["id"];
/** What is to be confirmed gets what an emulated machine may need; what is to come back does not have to wait for that. */
const PATIENT_MS = 120_000;
const HASTY_MS = 30_000;

describe.skipIf(!asked)("the network of an emulated machine", () => {
  let guest: Guest;
  let card: Readonly<Record<Card, string>>;
  /** Of the node's WireGuard, and of the other side's. */
  let keys: { readonly ours: string; readonly oursPublic: string; readonly theirs: string; readonly theirsPublic: string };
  const sh = (script: string) => guest.sh(script);
  const become = (wanted: object | null) => guest.become(wanted, { disruptive: true, confirmMs: PATIENT_MS });

  beforeAll(async () => {
    guest = await Guest.start("network", { cards });
    await guest.machine.pull("a3");
    const names = await Promise.all(cards.map(async ({ id }) => [id, guest.machine.mac(id)] as const));
    const listed = await sh("cd /sys/class/net; for each in *; do echo $(cat $each/address) $each; done");
    card = Object.fromEntries(names.map(([id, mac]) => [id, new RegExp(`^${mac} (\\S+)$`, "m").exec(listed)?.[1]])) as Record<Card, string>;
    const [ours = "", oursPublic = "", theirs = "", theirsPublic = ""] = (await sh("for n in 1 2; do wg genkey | tee /root/key$n; wg pubkey < /root/key$n; done")).split("\n");
    keys = { ours, oursPublic, theirs, theirsPublic };
  }, timeout);
  afterAll(() => guest?.machine.remove(), timeout);

  /** What is at the other end of the cables, in a network namespace of its own: a switch, or one that speaks LACP. */
  const otherSide = (port: "bridge" | "bond mode 802.3ad miimon 100 lacp_rate fast"): Promise<string> =>
    sh(`
      set -e
      ip netns delete far 2>/dev/null && sleep 1 || true
      ip netns add far
      for each in ${card.b1} ${card.b2}; do ip link set $each netns far; done
      cd /; exec ip netns exec far bash -e -c '
        ip link add port type ${port}
        for each in ${card.b1} ${card.b2}; do ip link set $each down; ip link set $each mtu 9000; ip link set $each master port; ip link set $each up; done
        ip link set port mtu 9000 up; ip address add 10.5.0.254/24 dev port
        for id in 7 8; do ip link add link port name port.$id type vlan id $id; ip link set port.$id up; ip address add 10.$id.0.254/24 dev port.$id; done
        ip link add wg0 type wireguard
        wg set wg0 listen-port 51820 private-key /root/key2 peer ${keys.oursPublic} allowed-ips 10.66.0.1/32
        ip address add 10.66.0.254/24 dev wg0; ip link set wg0 up'`);

  const section = (bond: object = {}) => ({
    bonds: { bond0: { members: [card.a1, card.a2], primary: card.a1, addresses: ["10.5.0.1/24"], gateway4: "10.5.0.254", mtu: 9000, ...bond } },
    vlans: { v7: { parent: "bond0", id: 7 }, v8: { parent: "bond0", id: 8, addresses: ["10.8.0.1/24"], mtu: 1400 } },
    bridges: { br0: { members: ["v7"], addresses: ["10.7.0.1/24"] } },
    wireguards: { wg0: { privateKey: keys.ours, publicKey: keys.oursPublic, addresses: ["10.66.0.1/24"], peers: { far: { publicKey: keys.theirsPublic, endpoint: "10.5.0.254:51820", allowedIps: ["10.66.0.254/32"] } } } },
  });

  /** By the bond, the VLAN on it, the bridge with a VLAN in it, and the tunnel. */
  const reachesAll = (): Promise<string> => sh("for each in 10.5.0.254 10.8.0.254 10.7.0.254 10.66.0.254; do ping -n -q -c 10 -i 0.5 -w 60 -W 5 $each >/dev/null & done; for job in $(jobs -p); do wait $job || exit 1; done; ping -n -q -c 1 -w 30 -M do -s 8972 10.5.0.254");
  const members = (): Promise<string> => sh("tr ' ' '\\n' < /sys/class/net/bond0/bonding/slaves | sort | xargs");
  const bonding = (what: string): Promise<string> => sh(`sed -n 's/^${what}: //p' /proc/net/bonding/bond0`);

  test(
    "a bond of two cards, VLANs on it, a bridge with one of them, and a tunnel come up",
    async () => {
      await otherSide("bridge");
      await become(section());
      await reachesAll();
      expect(await bonding("Bonding Mode")).toBe("fault-tolerance (active-backup)");
      expect(await members()).toBe(`${card.a1} ${card.a2}`);
      expect(await sh("cd /sys/class/net; basename $(readlink v7/master); cat bond0/mtu v8/mtu wg0/mtu; wg show wg0 latest-handshakes | wc -l")).toBe("br0\n9000\n1400\n1420\n1");
    },
    timeout,
  );

  test(
    "the bond outlives a pulled cable, and the node is left as it is meanwhile",
    async () => {
      expect(await bonding("Currently Active Slave")).toBe(card.a1);
      for (const each of ["a1", "b1"]) await guest.machine.pull(each);
      await sh(`until grep -q 'Active Slave: ${card.a2}' /proc/net/bonding/bond0; do sleep 0.2; done`);
      await reachesAll();
      expect((await guest.converge(section())).converged).toMatchObject({ outcome: "converged", changes: [], problems: [] });
      for (const each of ["a1", "b1"]) await guest.machine.plug(each);
      await sh(`until grep -q 'Active Slave: ${card.a1}' /proc/net/bonding/bond0; do sleep 0.2; done`);
    },
    timeout,
  );

  test(
    "a reboot keeps it",
    async () => {
      await guest.machine.reboot();
      await guest.machine.pull("a3");
      await otherSide("bridge");
      await reachesAll();
      expect((await guest.converge(section())).converged).toMatchObject({ outcome: "converged", changes: [], problems: [] });
    },
    timeout,
  );

  test(
    "a bond that gets no working member is put back",
    async () => {
      const { converged } = await guest.converge(section({ members: [card.a3], primary: card.a3 }), { disruptive: true, confirmMs: HASTY_MS });
      expect(converged).toMatchObject({ outcome: "failed", problems: [{ code: "unconfirmed", message: expect.stringMatching(/10\.5\.0\.254|bond0|default route|not confirmed/) }] });
      expect(await members()).toBe(`${card.a1} ${card.a2}`);
      await reachesAll();
      expect(await sh(`cat /sys/class/net/${card.a3}/master/uevent 2>/dev/null || echo free`)).toBe("free");
      expect((await guest.converge(section())).converged).toMatchObject({ outcome: "converged", changes: [] });
    },
    timeout,
  );

  test(
    "another mode waits for the node's turn, and finds its partner",
    async () => {
      await otherSide("bond mode 802.3ad miimon 100 lacp_rate fast");
      const { primary: _, ...rest } = section().bonds.bond0;
      const lacp = { ...section(), bonds: { bond0: { ...rest, mode: "lacp", lacpRate: "fast", hashPolicy: "layer3+4", minLinks: 1 } } };
      expect((await guest.converge(lacp)).converged.outcome).toBe("held");
      await become(lacp);
      await reachesAll();
      expect(await bonding("Bonding Mode")).toBe("IEEE 802.3ad Dynamic link aggregation");
      expect(await bonding("Transmit Hash Policy")).toBe("layer3+4 (1)");
      expect(await bonding("LACP rate")).toBe("fast");
      expect(await bonding("\\tNumber of ports")).toBe("2");
      expect(await bonding("\\tPartner Mac Address")).toBe(await sh("ip netns exec far cat /sys/class/net/port/address"));
    },
    timeout,
  );

  test(
    "the last way out is not taken away: a section that goes with the only default route is put back",
    async () => {
      const { converged } = await guest.converge(null, { disruptive: true, confirmMs: HASTY_MS });
      expect(converged).toMatchObject({ outcome: "failed", problems: [{ code: "unconfirmed", message: expect.stringContaining("there is no default route any more; it led to 10.5.0.254 on bond0") }] });
      await reachesAll();
    },
    timeout,
  );
});
