import { lookup, type LookupAddress } from "node:dns";
import type { LookupFunction } from "node:net";

/**
 * The machine's own name look-up, where all who ask for the same name at the same time share one call. getaddrinfo(3)
 * cannot be cancelled and takes one of libuv's few threads: with a dead name server, a new call per look would pile up
 * faster than they end. Nothing is kept once a call has ended.
 */
export class SharedNames {
  readonly #underWay = new Map<string, Promise<LookupAddress[]>>();

  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.#addresses(hostname).then(
      (all) => {
        const family = options.family === "IPv4" ? 4 : options.family === "IPv6" ? 6 : (options.family ?? 0);
        const fitting = family === 0 ? all : all.filter((address) => address.family === family);
        const [first] = fitting;
        if (first === undefined) callback(Object.assign(new Error(`${hostname} has no address of this family`), { code: "ENOTFOUND" }), "");
        else if (options.all === true) callback(null, fitting);
        else callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, ""),
    );
  };

  #addresses(hostname: string): Promise<LookupAddress[]> {
    const running = this.#underWay.get(hostname);
    if (running !== undefined) return running;
    const asked = new Promise<LookupAddress[]>((resolve, reject) => {
      lookup(hostname, { all: true }, (error, addresses) => {
        this.#underWay.delete(hostname);
        if (error === null) resolve(addresses);
        else reject(error);
      });
    });
    this.#underWay.set(hostname, asked);
    return asked;
  }
}
