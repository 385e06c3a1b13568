import { parse } from "yaml";
import type { Signer } from "../git/signers.ts";
import { Cluster } from "./cluster.ts";

/**
 * The signers that a cluster.yaml names, read without regard to the rest of the file: who may sign must not depend on
 * whether an update policy beside it is well written. null when there are none that can be read.
 */
export function signersIn(clusterYaml: Uint8Array): readonly Signer[] | null {
  try {
    const file: unknown = parse(new TextDecoder().decode(clusterYaml), { maxAliasCount: 0 });
    if (typeof file !== "object" || file === null || !("signers" in file)) return null;
    const signers = Cluster.shape.signers.safeParse(file.signers);
    return signers.success ? signers.data : null;
  } catch {
    return null;
  }
}
