import { createClient } from "@libsql/client";

/**
 * Keeps a second hub off the same data directory: a write transaction on a database of its own, held for as long as the
 * hub runs. SQLite's lock is the kernel's (fcntl), so it goes with the process, however that ends.
 */
export interface Lock {
  release(): void;
}

/** Null when another process (or another hub in this one) holds it. */
export async function takeLock(path: string): Promise<Lock | null> {
  const client = createClient({ url: `file:${path}`, concurrency: 1 });
  try {
    const transaction = await client.transaction("write");
    return {
      release() {
        transaction.close();
        client.close();
      },
    };
  } catch (error) {
    client.close();
    if (String((error as { code?: unknown }).code).startsWith("SQLITE_BUSY")) return null;
    throw error;
  }
}
