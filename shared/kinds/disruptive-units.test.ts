import { expect, test } from "vitest";
import { markedBefore, markedUnits, withUnitImpact } from "./disruptive-units.ts";
import type { Step } from "./kind.ts";

const units = markedUnits({ "store.service": { disruptive: true }, "web.service": { disruptive: false }, "cron.service": {} });
const write = (more: Partial<Step> = {}): Step => ({ resource: "files//etc/store", why: "differs", impact: "service", do: "write", path: "/etc/store", content: new Uint8Array(), mode: 0o644, owner: "root", group: "root", ...more }) as Step;
const unit = (action: "start" | "stop", name: string): Step => ({ resource: `services/${name}`, why: "", impact: "service", do: "unit", action, unit: name });

test("only units that are marked, and a section that is missing marks none", () => {
  expect([...units]).toEqual(["store.service"]);
  expect(markedUnits(undefined).size).toBe(0);
  expect([...markedBefore(new Map([["store.service", { disruptive: true }], ["web.service", { loadState: "loaded" }], ["/etc/x", null]]))]).toEqual(["store.service"]);
});

test("what stops, restarts or reloads one is disruptive, whichever kind asks; a start, and others' units, are as they were", () => {
  const restart = write({ then: [{ unit: "store.service", action: "restart" }] });
  const reload = write({ then: [{ unit: "store.service", action: "reload" }, { unit: "web.service", action: "reload" }] });
  const steps = withUnitImpact([restart, reload, unit("stop", "store.service"), unit("start", "store.service"), unit("stop", "web.service"), write()], units);
  expect(steps.map(({ impact }) => impact)).toEqual(["disruptive", "disruptive", "disruptive", "service", "service", "service"]);
  expect(steps[1]?.then).toEqual([{ unit: "store.service", action: "reload", impact: "disruptive" }, { unit: "web.service", action: "reload" }]);
  expect(withUnitImpact(steps, units)).toEqual(steps);
});

test("what may cut the node off stays that, and its trigger says that it waits", () => {
  const [step] = withUnitImpact([write({ impact: "network", then: [{ unit: "store.service", action: "restart" }] })], units);
  expect(step).toMatchObject({ impact: "network", then: [{ impact: "disruptive" }] });
});
