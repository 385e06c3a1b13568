import { expect, test } from "vitest";
import { makeLog } from "./log.ts";

function logged(isTTY: boolean): string {
  let text = "";
  const out = { isTTY, write: (line: string) => ((text += line), true) } as unknown as NodeJS.WriteStream;
  const error = new Error(`Failed query: ${"x".repeat(100_000)}`, { cause: new Error("disk is full") });
  makeLog("info", out).error({ err: error, node: "n1" }, "could not store");
  return text;
}

test("machines get one JSON object a line, people a readable one; what a query carried is cut", () => {
  const line = logged(false);
  expect(line.length).toBeLessThan(5_000);
  expect(JSON.parse(line)).toMatchObject({ level: 50, node: "n1", msg: "could not store", err: { cause: "disk is full" } });
  expect(logged(true)).toMatch(/error.*could not store.*node=n1 error=disk is full/);
});
