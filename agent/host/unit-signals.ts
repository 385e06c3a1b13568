import dbus from "@homebridge/dbus-native";
import type { MessageBus } from "@homebridge/dbus-native";
import type { Clock } from "../../shared/clock.ts";

/** The bus is restarted by few things, an upgrade of dbus among them; systemd is asked again a little later. */
const RETRY_MS = 10_000;
const MANAGER = { destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager" };

/** The library's types leave out what a message is made of (D-Bus specification, message protocol). */
interface Message {
  readonly type: number;
  readonly path?: string;
  readonly interface?: string;
  readonly member?: string;
  /** Of PropertiesChanged: the interface, its changed properties with their values, and those whose value is not told. */
  readonly body?: readonly unknown[];
}

const SIGNAL = 4;
const UNIT_INTERFACE = "org.freedesktop.systemd1.Unit";

/** States that a unit stays in. On its way from one to another it is none of them, and says more when it is there. */
const SETTLED = ["active", "inactive", "failed"];

/**
 * Says when systemd's view of some units has changed: started, stopped, failed, enabled, disabled. It does not say what:
 * the engine looks by itself. Without a bus there are no events, and the sweep finds the drift later.
 */
export class UnitSignals {
  readonly #clock: Clock;
  readonly #onChange: (what: string) => void;
  #bus: MessageBus | null = null;
  #units: ReadonlySet<string> = new Set();
  #paths = new Map<string, string>();
  /** Of each unit, the state that was heard of last: systemd tells all properties at once, most of them as they were. */
  readonly #states = new Map<string, string>();
  #stopped = false;

  constructor(clock: Clock, onChange: (what: string) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** Watches exactly these units from now on. */
  watch(units: Iterable<string>): void {
    const wanted = new Set(units);
    if (wanted.size === this.#units.size && [...wanted].every((unit) => this.#units.has(unit)) && this.#bus !== null) return;
    this.#units = wanted;
    this.#paths = new Map([...wanted].map((unit) => [unitPath(unit), unit]));
    this.#disconnect();
    if (wanted.size > 0) this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#disconnect();
  }

  #connect(): void {
    if (this.#stopped) return;
    const bus = dbus.systemBus();
    this.#bus = bus;
    // What they became while nobody listened is not known.
    this.#states.clear();
    const lost = () => {
      if (this.#bus !== bus) return;
      this.#bus = null;
      bus.connection.stream.destroy();
      this.#clock.after(RETRY_MS, () => {
        if (this.#bus !== null || this.#stopped) return;
        this.#connect();
        // What happened meanwhile was not heard.
        this.#onChange("systemd's bus");
      });
    };
    bus.connection.on("error", lost);
    bus.connection.on("end", lost);
    bus.connection.on("message", (message: Message) => this.#receive(message));
    bus.connection.stream.unref();
    const call = (message: object) => bus.invoke(message, (error) => (error === undefined || error === null ? undefined : lost()));
    // systemd sends signals only while somebody has subscribed (org.freedesktop.systemd1(5)).
    call({ ...MANAGER, member: "Subscribe" });
    for (const path of this.#paths.keys()) call(matchCall(`type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='${UNIT_INTERFACE}',path='${path}'`));
    call(matchCall(`type='signal',sender='org.freedesktop.systemd1',interface='${MANAGER.interface}',member='UnitFilesChanged'`));
  }

  #receive(message: Message): void {
    if (message.type !== SIGNAL) return;
    if (message.member === "UnitFilesChanged") this.#onChange("unit files");
    const unit = this.#paths.get(message.path ?? "");
    const state = stateIn(message.body);
    if (unit === undefined || state === null || this.#states.get(unit) === state) return;
    this.#states.set(unit, state);
    this.#onChange(unit);
  }

  #disconnect(): void {
    const bus = this.#bus;
    this.#bus = null;
    bus?.connection.stream.destroy();
  }
}

/**
 * Where a unit stands, out of the body of a PropertiesChanged; null when it says nothing of interest: a unit on its way, or
 * other properties. So a oneshot service that a timer starts goes from inactive to inactive, and is no news. One that
 * crashes and is waiting to be started again is: it is down. LoadState and UnitFileState are not told by this signal at all
 * (org.freedesktop.systemd1(5)); UnitFilesChanged stands for them.
 */
export function stateIn(body: readonly unknown[] | undefined): string | null {
  if (body?.[0] !== UNIT_INTERFACE || !Array.isArray(body[1])) return null;
  const active = textOf(body[1], "ActiveState");
  if (active !== null && SETTLED.includes(active)) return active;
  const sub = textOf(body[1], "SubState");
  return sub?.startsWith("auto-restart") ? "auto-restart" : null;
}

/** A property's value out of a{sv}, which the library gives as [name, [signature, [value]]]. */
function textOf(properties: readonly unknown[], name: string): string | null {
  const found = properties.find((property) => Array.isArray(property) && property[0] === name) as [string, [unknown, [unknown]]] | undefined;
  const value = found?.[1]?.[1]?.[0];
  return typeof value === "string" ? value : null;
}

function matchCall(rule: string): object {
  return { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus", member: "AddMatch", signature: "s", body: [rule] };
}

/** A unit's object path: every byte but letters and digits becomes `_` and two hex digits; so does a digit at the start (sd_bus_path_encode(3)). */
export function unitPath(unit: string): string {
  const escaped = [...Buffer.from(unit)].map((byte, at) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z]/.test(character) || (at > 0 && /\d/.test(character)) ? character : `_${byte.toString(16).padStart(2, "0")}`;
  });
  return `/org/freedesktop/systemd1/unit/${escaped.join("")}`;
}
