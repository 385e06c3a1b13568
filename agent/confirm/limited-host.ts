import type { Host } from "../host/host.ts";

/** A host of which nothing takes longer than is left: what is under way when the time is up is ended, and can be put back. */
export function limitedHost(host: Host, leftMs: () => number): Host {
  const left = () => Math.max(1, Math.floor(leftMs()));
  return {
    probe: host.probe,
    get processesStarted() {
      return host.processesStarted;
    },
    apply: (step, earlier) => host.apply(step.do === "run" || step.do === "download" ? { ...step, timeoutMs: Math.min(step.timeoutMs, left()) } : step, earlier),
    packages: (steps, declared) => host.packages(steps, declared),
    units: (action, units, timeoutMs) => host.units(action, units, Math.min(timeoutMs ?? Infinity, left())),
    trigger: (trigger, timeoutMs) => host.trigger(trigger, Math.min(timeoutMs ?? Infinity, left())),
    keep: (path) => host.keep(path),
    forget: (wanted) => host.forget(wanted),
  };
}
