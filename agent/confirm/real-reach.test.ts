import { expect, test } from "vitest";
import { parseDefaultRoutes } from "./real-reach.ts";

/** As `ip -j route show default` of iproute2 6.1 says it. */
test.each([
  ["one", '[{"dst":"default","gateway":"10.77.5.1","dev":"host0","protocol":"static","flags":[]}]', [{ address: "10.77.5.1", device: "host0" }]],
  ["several next hops", '[{"dst":"default","flags":[],"nexthops":[{"gateway":"10.0.0.1","dev":"eth0","weight":1,"flags":[]},{"gateway":"10.0.0.2","dev":"eth1","weight":1,"flags":[]}]}]', [{ address: "10.0.0.1", device: "eth0" }, { address: "10.0.0.2", device: "eth1" }]],
  ["IPv4 by an IPv6 neighbour", '[{"dst":"default","via":{"family":"inet6","host":"fe80::1"},"dev":"eth0","flags":[]}]', [{ address: "fe80::1", device: "eth0" }]],
  ["a tunnel, where nobody could answer", '[{"dst":"default","dev":"wg0","scope":"link","flags":[]}]', []],
  ["none", "[]", []],
  ["no answer at all", "", []],
  ["not JSON", "Error: something", []],
])("default routes: %s", (_what, stdout, expected) => {
  expect(parseDefaultRoutes(stdout)).toEqual(expected);
});
