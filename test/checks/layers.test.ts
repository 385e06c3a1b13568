import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/**
 * Who may import whom (DESIGN, section 10) is held by lint. A check that cannot fail is worse than none: so each rule gets
 * a violation planted in a copy of the tree's shape, and has to catch it.
 */

const root = join(import.meta.dirname, "..", "..");
const copy = mkdtempSync(join(tmpdir(), "evenkeel-layers-"));

function lint(directory: string, ...args: string[]): { clean: boolean; output: string } {
  try {
    const output = execFileSync(process.execPath, [join(root, "node_modules/oxlint/bin/oxlint"), "--deny-warnings", "-c", join(directory, ".oxlintrc.json"), ...args], { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    return { clean: true, output };
  } catch (error) {
    const failure = error as { stdout: string; stderr: string };
    return { clean: false, output: `${failure.stdout}${failure.stderr}` };
  }
}

const planted: readonly [rule: string, file: string, source: string, says: RegExp][] = [
  ["shared imports nothing of the agent", "shared/kinds/bad.ts", 'import { x } from "../../agent/x.ts";\nexport const y = x;\n', /shared imports nothing of ours/],
  ["shared imports nothing of the hub", "shared/config/bad.ts", 'import { x } from "../../hub/x.ts";\nexport const y = x;\n', /shared imports nothing of ours/],
  ["the agent never imports the hub", "agent/bad.ts", 'import { x } from "../hub/x.ts";\nexport const y = x;\n', /agent never imports the hub/],
  ["the hub never imports the agent", "hub/bad.ts", 'import { x } from "../agent/x.ts";\nexport const y = x;\n', /hub never imports the agent/],
  ["shared reads no files", "shared/bad1.ts", 'import { readFileSync } from "node:fs";\nexport const y = readFileSync("/etc/passwd");\n', /pure/],
  ["shared starts no processes", "shared/bad2.ts", 'import { execFileSync } from "node:child_process";\nexport const y = execFileSync("true");\n', /pure/],
  ["shared opens no sockets", "shared/bad3.ts", 'import { connect } from "node:net";\nexport const y = connect(1);\n', /pure/],
  ["shared reads no clock", "shared/bad4.ts", "export const y = Date.now();\n", /pure/],
  ["shared makes no random values", "shared/bad5.ts", "export const y = Math.random();\n", /pure/],
  ["shared waits for nothing", "shared/bad6.ts", "setTimeout(() => {}, 1);\nexport {};\n", /pure/],
  ["shared sees no environment", "shared/bad7.ts", 'export const y = process.env["HOME"];\n', /pure/],
  ["the coordinator is as pure as shared", "hub/coordinator/bad.ts", "export const y = Date.now();\n", /pure/],
  ["the coordinator reads no files", "hub/coordinator/bad2.ts", 'import { readFileSync } from "node:fs";\nexport const y = readFileSync("/etc/passwd");\n', /pure/],
  ["no cycles", "shared/bad8.ts", 'import { b } from "./bad9.ts";\nexport const a = () => b;\n', /cycle/i],
  ["no floating promises", "agent/bad2.ts", "async function f(): Promise<void> {}\nf();\nexport {};\n", /floating/i],
];

describe("the layer rules", () => {
  beforeAll(() => {
    writeFileSync(join(copy, ".oxlintrc.json"), readFileSync(join(root, ".oxlintrc.json")));
    writeFileSync(join(copy, "tsconfig.json"), readFileSync(join(root, "tsconfig.json")));
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const others = [
      ["agent/x.ts", "export const x = 1;\n"],
      ["hub/x.ts", "export const x = 1;\n"],
      ["shared/bad9.ts", 'import { a } from "./bad8.ts";\nexport const b = () => a;\n'],
    ] as const;
    for (const [file, source] of [...planted.map(([, file, source]) => [file, source] as const), ...others]) {
      mkdirSync(dirname(join(copy, file)), { recursive: true });
      writeFileSync(join(copy, file), source);
    }
  });
  afterAll(() => rmSync(copy, { recursive: true, force: true }));

  test.each(planted)("%s", (_rule, file, _source, says) => {
    const { clean, output } = lint(copy, file);
    expect(clean).toBe(false);
    expect(output).toMatch(says);
  });

  test("a clean file is clean", () => {
    expect(lint(copy, "agent/x.ts").output).toMatch(/0 errors/);
  });

  test("the project keeps them, and every other rule of lint", () => {
    expect(lint(root)).toMatchObject({ clean: true });
  });

  test("types", () => {
    const output = execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc")], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    expect(output).toBe("");
  });
});
