/**
 * Watches the sizes that a stream of MQTT packets announces, because the parser would collect up to 256 MB before anybody
 * is asked. MQTT 3.1.1, section 2.2.3: one byte of type, then the remaining length, seven bits a byte, low ones first.
 */
export class PacketSizeGuard {
  readonly #sizeMaxBytes: number;
  /** Bytes of the current packet's body that have yet to pass. */
  #remaining = 0;
  /** Bytes of the current fixed header that have passed: 0 before its first. */
  #header = 0;
  #length = 0;

  constructor(sizeMaxBytes: number) {
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  /** False as soon as a packet says that it is larger than allowed, or its length is malformed. */
  accepts(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#remaining > 0) {
        const passed = Math.min(this.#remaining, chunk.length - at);
        this.#remaining -= passed;
        at += passed;
        continue;
      }
      const byte = chunk[at++] ?? 0;
      if (this.#header === 0) {
        this.#header = 1;
        this.#length = 0;
        continue;
      }
      if (this.#header > 4) return false;
      this.#length += (byte & 0x7f) * 128 ** (this.#header - 1);
      this.#header += 1;
      if (this.#length > this.#sizeMaxBytes) return false;
      if ((byte & 0x80) === 0) {
        this.#remaining = this.#length;
        this.#header = 0;
      }
    }
    return true;
  }
}
