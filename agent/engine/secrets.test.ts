import { describe, expect, test } from "vitest";
import type { Step } from "../../shared/kinds/kind.ts";
import { Redactor } from "../../shared/secrets/redact.ts";
import { changeOf, diffOf } from "./describe.ts";
import { guardSecrets, withoutUnopened } from "./secrets.ts";

const SECRET = "hunter22";
const bytes = (text: string) => new TextEncoder().encode(text);
const redactor = new Redactor([bytes(`${SECRET}\n`)]);
const guard = (step: Step): Step => guardSecrets([step], redactor)[0]!;
const common = { resource: "files//etc/a", why: `is ${SECRET}`, impact: "none" } as const;
const write = { ...common, do: "write", path: "/etc/a", content: bytes(`pw=${SECRET}\n`), mode: 0o600, owner: "root", group: "root" } as const;

describe("guardSecrets", () => {
  test("a step with a secret in it is sensitive, and no word of it is told", async () => {
    const steps: readonly Step[] = [write, { ...common, do: "run", argv: ["cat"], timeoutMs: 1_000, input: SECRET }, { ...common, do: "set", path: "/sys/key", value: SECRET }];
    for (const step of steps) {
      const guarded = guard(step);
      expect(guarded).toMatchObject({ do: step.do, sensitive: true, why: "is •••" });
      expect(JSON.stringify(changeOf(guarded, "failed", `cannot: ${SECRET}`))).not.toContain(SECRET);
      expect(await diffOf(guarded, {} as never)).toBeUndefined();
    }
  });

  test.each<[string, Step, RegExp]>([
    ["an argument", { ...common, do: "run", argv: ["mysql", `-p${SECRET}`], timeoutMs: 1_000 }, /arguments of mysql[^]*not started[^]*mode 0600/],
    ["an argument of what takes it back", { ...common, do: "set", path: "/sys/x", value: "1", undo: { doing: "x", argv: ["y", SECRET], timeoutMs: 1 } }, /arguments of y/],
    ["a file that everybody may read", { ...write, mode: 0o644 }, /\/etc\/a would hold a secret, and everybody on this machine may read it \(mode 0644\)/],
    ["the agent's own records", { ...write, claim: { was: SECRET } }, /own records/],
  ])("%s is refused before anything is done", (_name, step, message) => {
    const guarded = guard(step);
    expect(guarded).toMatchObject({ do: "fail", resource: "files//etc/a", message: expect.stringMatching(message) });
    expect(JSON.stringify(guarded)).not.toContain(SECRET);
  });

  test("what holds none stays as it is", () => {
    const step: Step = { ...write, why: "content differs", content: bytes("no"), mode: 0o644 };
    expect(guard(step)).toBe(step);
  });
});

test("what uses a secret that cannot be opened fails and says why; the rest of the section goes on", () => {
  const other: Step = { ...write, resource: "files//etc/b", why: "absent" };
  const steps = withoutUnopened("files", [write, { ...common, do: "remove", path: "/etc/a" }, other], { message: "cannot be opened", keys: new Set(["/etc/a", "/etc/c"]) });
  expect(steps).toMatchObject([{ resource: "files//etc/a", do: "fail", message: "cannot be opened" }, { resource: "files//etc/c", do: "fail" }, other]);
});
