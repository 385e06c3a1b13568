import { defineConfig } from "vitest/config";

/**
 * Groups, one after the other: what runs in memory and on loopback; what checks the project itself; the simulation; what
 * needs real nodes, which each file has its own of; and a real Kubernetes API.
 */
export default defineConfig({
  test: {
    reporters: ["default", "./test/closing-line.ts"],
    // Three times what is seen on a quiet machine: CI shares its cores.
    testTimeout: 60_000,
    hookTimeout: 240_000,
    projects: [
      {
        test: {
          name: "unit",
          include: ["{agent,hub,shared,image}/**/*.test.ts", "test/{fixtures,bench}/**/*.test.ts"],
          pool: "forks",
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: { name: "checks", include: ["test/checks/**/*.test.ts"], testTimeout: 120_000, sequence: { groupOrder: 2 } },
      },
      {
        test: {
          // Both cores, one file after the other.
          name: "sim",
          include: ["test/sim/**/*.test.ts"],
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
      {
        test: {
          name: "real",
          include: ["test/{lab,e2e}/**/*.test.ts"],
          // Most of the time they wait for a daemon, a boot or a soak: two files at a time.
          maxWorkers: 2,
          pool: "forks",
          testTimeout: 180_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 4 },
        },
      },
      {
        // The last, because what it tests against may still be being built beside all others.
        test: { name: "kube", include: ["test/kube/**/*.test.ts"], testTimeout: 180_000, hookTimeout: 300_000, sequence: { groupOrder: 5 } },
      },
    ],
  },
});
