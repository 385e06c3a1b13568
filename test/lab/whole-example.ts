import type { Cupboard } from "./cupboard.ts";
import type { Lab } from "./lab.ts";
import { defaultMirror } from "./mirror.ts";
import { makeTinyImage } from "./tiny-image.ts";

/** What git-config/ as a whole needs of a lab of the flavour `cluster`, for the demo and for the test of it. */

/** The packages that the example installs, and one to update: its next version is one command away. */
export async function stockExample(lab: Lab): Promise<void> {
  await lab.mirror([...defaultMirror, "haproxy"]);
  await lab.publish("even-tool", "1.0");
}

/** Pushes the example, once. Answers the tip. */
export async function pushWholeExample(lab: Lab, cupboard: Cupboard): Promise<string> {
  return cupboard.pushExample(async () => {
    const fingerprint = await makeTinyImage(lab);
    await cupboard.edit("roles/containers.yaml", (text) => text.replace(/"0{64}"/, fingerprint));
  });
}

/** Enrols the nodes, and lets the repository know their keys: by these, they hand each other tokens. */
export async function enrolAll(lab: Lab, cupboard: Cupboard, onProgress: (message: string) => void = () => {}): Promise<void> {
  for (const node of lab.nodes) onProgress(await cupboard.enrol(node));
  await cupboard.trustAll();
}
