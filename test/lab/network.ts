import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { LabError, must, run, until } from "./command.ts";
import { withLock } from "./lock.ts";

// Between labs of one machine: who takes which subnet.
const subnetLock = "/run/lock/evenkeel-lab-subnets.lock";

/** The lab's switch: a bridge on the host with a /24 of its own, and one cable (veth) per node. */
export class LabNetwork {
  readonly bridge: string;
  readonly #owner: string;

  /** `owner` tells two labs apart whose prefixes happen to be the same: the state directory. */
  constructor(prefix: string, owner: string) {
    this.bridge = `${prefix}-br`;
    this.#owner = owner;
  }

  exists(): boolean {
    return existsSync(`/sys/class/net/${this.bridge}`);
  }

  /** Makes the bridge, on the wished subnet (the X of 10.77.X.0/24) if nobody else has it. Gives the one it has. */
  async create(wishedSubnet: number): Promise<number> {
    return withLock(subnetLock, 30_000, async () => {
      const present = await this.#subnetOfBridge();
      if (present !== undefined) return present;
      const taken = await subnetsInUse();
      const free = Array.from({ length: 254 }, (_, step) => ((wishedSubnet - 1 + step) % 254) + 1);
      const subnet = free.find((candidate) => !taken.has(candidate));
      if (subnet === undefined) throw new LabError("cannot-run-here", "all subnets in 10.77.0.0/16 are taken");
      if ((await run(["ip", "link", "show", this.bridge])).code !== 0) {
        await must(["ip", "link", "add", this.bridge, "type", "bridge", "mcast_snooping", "0"]);
      }
      await must(["ip", "link", "set", this.bridge, "alias", this.#owner.slice(-250)]);
      await must(["ip", "address", "replace", `10.77.${subnet}.1/24`, "dev", this.bridge]);
      await must(["ip", "link", "set", this.bridge, "up"]);
      return subnet;
    });
  }

  /** Cable in or out: without it the node sees no carrier. */
  async setCable(link: string, plugged: boolean): Promise<void> {
    await must(["ip", "link", "set", link, plugged ? "up" : "down"]);
  }

  /** Port of the switch alive or dead: the node keeps its carrier either way. */
  async setPort(link: string, alive: boolean): Promise<void> {
    await must(["ip", "link", "set", link, ...(alive ? ["master", this.bridge] : ["nomaster"])]);
  }

  async hasLink(link: string): Promise<boolean> {
    return (await run(["ip", "link", "show", link])).code === 0;
  }

  async remove(links: readonly string[]): Promise<void> {
    if (await this.#belongsToAnother()) return;
    for (const link of [...links, this.bridge]) {
      // A dead node's veth goes with its network namespace, a moment later; deleting it first is no error.
      await until(`the removal of ${link}`, 10_000, async () => {
        await run(["ip", "link", "delete", link]);
        return (await this.hasLink(link)) ? undefined : true;
      });
    }
  }

  async #belongsToAnother(): Promise<string | undefined> {
    const alias = (await readFile(`/sys/class/net/${this.bridge}/ifalias`, "utf8").catch(() => "")).trim();
    return alias === "" || alias === this.#owner.slice(-250) ? undefined : alias;
  }

  async #subnetOfBridge(): Promise<number | undefined> {
    const other = await this.#belongsToAnother();
    if (other !== undefined) {
      throw new LabError("cannot-run-here", `${this.bridge} belongs to the lab in ${other}: use another name`);
    }
    const shown = (await run(["ip", "-o", "-4", "address", "show", "dev", this.bridge])).stdout;
    const subnet = /inet 10\.77\.(\d+)\.1\//.exec(shown)?.[1];
    return subnet === undefined ? undefined : Number(subnet);
  }
}

async function subnetsInUse(): Promise<Set<number>> {
  const text = (await must(["ip", "-o", "-4", "address"])) + (await must(["ip", "-4", "route"]));
  return new Set(Array.from(text.matchAll(/\b10\.77\.(\d+)\./g), (match) => Number(match[1])));
}
