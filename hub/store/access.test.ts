import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AccessStore } from "./access.ts";
import { openDatabase } from "./database.ts";

const migrations = join(import.meta.dirname, "migrations");

test("tokens from before there was FleetLock still let their people in; one for FleetLock is nobody's", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ek-access-"));
  for (const name of readdirSync(migrations).filter((file) => file < "0003")) cpSync(join(migrations, name), join(directory, "earlier", name));
  const earlier = await openDatabase(join(directory, "hub.db"), join(directory, "earlier"));
  await new AccessStore(earlier).putToken("ada", "hash-ada", "admin", 7);
  await new AccessStore(earlier).putToken("bob", "hash-bob", "read", 8);
  await expect(new AccessStore(earlier).putToken("coreos", "hash-coreos", "fleetlock", 9)).rejects.toThrow();
  earlier.close();
  const database = await openDatabase(join(directory, "hub.db"), migrations);
  const access = new AccessStore(database);
  await access.putToken("coreos", "hash-coreos", "fleetlock", 9);
  expect(await access.tokens()).toMatchObject([{ name: "ada", role: "admin", createdAtMs: 7 }, { name: "bob", role: "read" }, { name: "coreos", role: "fleetlock" }]);
  expect([await access.tokenOwner("hash-ada"), await access.tokenOwner("hash-coreos"), await access.tokenOwner("hash-eve")]).toEqual([{ name: "ada", role: "admin" }, null, null]);
  expect([await access.fleetLockOwner("hash-coreos"), await access.fleetLockOwner("hash-ada"), await access.fleetLockOwner("hash-bob"), await access.fleetLockOwner("hash-eve")]).toEqual(["coreos", "ada", null, null]);
  await expect(access.putToken("eve", "hash-eve", "root" as never, 9)).rejects.toThrow();
  database.close();
  rmSync(directory, { recursive: true });
});
