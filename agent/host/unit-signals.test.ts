import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { stateIn } from "./unit-signals.ts";

/** Bodies of PropertiesChanged, through the library's own marshalling, with the properties that systemd sends. */

const library = createRequire(import.meta.url)("@homebridge/dbus-native/lib/message.js") as {
  readonly marshall: (message: object) => Buffer;
  readonly unmarshall: (bytes: Buffer) => { readonly body: readonly unknown[] };
};

function body(of: string, properties: Readonly<Record<string, string>>): readonly unknown[] {
  const changed = Object.entries(properties).map(([name, value]) => [name, ["s", value]]);
  return library.unmarshall(library.marshall({ type: 4, serial: 1, path: "/org/freedesktop/systemd1/unit/x_2eservice", interface: "org.freedesktop.DBus.Properties", member: "PropertiesChanged", signature: "sa{sv}as", body: [of, changed, ["Conditions"]] })).body;
}

const unit = (properties: Readonly<Record<string, string>>) => stateIn(body("org.freedesktop.systemd1.Unit", properties));

/** The different states that are told, in order. */
function told(states: readonly (readonly [active: string, sub: string])[]): string[] {
  const heard = states.map(([ActiveState, SubState]) => unit({ ActiveState, SubState, Following: "" })).filter((state) => state !== null);
  return heard.filter((state, index) => state !== heard[index - 1]);
}

test("a oneshot service that a timer starts stays where it was, whether it is well or failing", () => {
  expect(told([["inactive", "dead"], ["activating", "start"], ["inactive", "dead"], ["activating", "start"], ["inactive", "dead"]])).toEqual(["inactive"]);
  expect(told([["failed", "failed"], ["activating", "start"], ["failed", "failed"]])).toEqual(["failed"]);
});

test("a timer that elapses stays active", () => {
  expect(told([["active", "waiting"], ["active", "running"], ["active", "waiting"]])).toEqual(["active"]);
});

test("a stop, a crash, and a service that is started again and again are told", () => {
  expect(told([["active", "running"], ["deactivating", "stop-sigterm"], ["inactive", "dead"]])).toEqual(["active", "inactive"]);
  expect(told([["active", "running"], ["failed", "failed"]])).toEqual(["active", "failed"]);
  expect(told([["active", "running"], ["activating", "auto-restart"], ["activating", "start"], ["active", "running"]])).toEqual(["active", "auto-restart", "active"]);
});

test("other properties, and what is not a body at all, say nothing", () => {
  expect(unit({ StateChangeTimestamp: "1" })).toBe(null);
  expect(stateIn(body("org.freedesktop.systemd1.Service", { ActiveState: "active" }))).toBe(null);
  expect(stateIn(undefined)).toBe(null);
  expect(stateIn(["org.freedesktop.systemd1.Unit", 7])).toBe(null);
});
