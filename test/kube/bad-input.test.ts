import "../../hub/pki/reflect.ts";
import { webcrypto } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HostProbe } from "../../agent/host/probe.ts";
import { Processes } from "../../agent/host/process.ts";
import { kubernetes } from "../../shared/kinds/kubernetes.ts";
import type { KubernetesWant } from "../../shared/kinds/kubernetes-section.ts";
import { reasonText } from "../../shared/kinds/kind.ts";
import type { Act, Step } from "../../shared/kinds/kind.ts";
import { until } from "../e2e/real-cupboard.ts";
import { buildKube, kubeDirectory } from "./build.ts";
import { Kube } from "./kube.ts";

/** What is wrong with the cluster or with what the section says of it, as a real API and a real kubectl tell it. */

const problem = await buildKube();
if (problem !== null) console.error(problem);

let kube: Kube;
let directory = "";
const processes = new Processes();
const run: typeof processes.run = (argv, options) => processes.run(argv[0] === "kubectl" ? [join(kubeDirectory(), "kubectl"), ...argv.slice(1)] : argv, options);
const probe = new HostProbe(run);
const carryOut = ({ argv, timeoutMs }: Act) => run(argv, { timeoutMs });

beforeAll(async () => {
  if (problem !== null) return;
  directory = await mkdtemp(join(tmpdir(), "kube-bad-"));
  kube = await Kube.start();
  for (const name of ["n1", "n2"]) await kube.addNode(name);
});
afterAll(async () => {
  await kube?.stop();
  if (directory !== "") await rm(directory, { recursive: true });
});

function want(written: object): KubernetesWant {
  const section = kubernetes.schema.parse({ kubeconfig: kube.kubeconfig, ...written });
  return kubernetes.resolve!(section, { cluster: "cupboard", self: "n1", nodes: [{ name: "n1", section }] }).want;
}
async function plan(written: object): Promise<readonly Step[]> {
  const wanted = want(written);
  return kubernetes.plan(wanted, await kubernetes.observe(wanted, probe, new Map()), new Map());
}
const drain = async (written: object = {}) => kubernetes.drain!.steps(want(written), await kubernetes.drain!.observe(want(written), probe));
const reasons = async (written: object = {}) => kubernetes.gate!.reasons(want(written), await kubernetes.gate!.observe(want(written), probe)).map(reasonText);

/** It is said in one sentence before the first step, nothing is drained, and the gate is closed by it. */
async function isRefused(written: object, sentence: RegExp): Promise<void> {
  expect(await plan({ ...written, labels: { disk: "ssd" } })).toMatchObject([{ do: "fail", resource: "kubernetes/api", message: expect.stringMatching(sentence) }]);
  expect((await drain(written)).map(({ cannot }) => cannot)).toEqual([expect.stringMatching(sentence), expect.stringMatching(sentence)]);
  expect(await reasons(written)).toEqual([expect.stringMatching(sentence)]);
}
/** The kubeconfig of the tests, changed. */
async function changed(name: string, change: (text: string) => string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, change(await readFile(kube.kubeconfig, "utf8")), { mode: 0o600 });
  return path;
}

describe.skipIf(problem !== null)("bad input of the kind kubernetes", () => {
  test("a node that has another name in Kubernetes", async () => {
    await isRefused({ nodeName: "n9" }, /"?n9"?.*nodeName/s);
    // And with the right one, all is well.
    expect(await plan({ nodeName: "n2", labels: { disk: "ssd" } })).toMatchObject([{ do: "run", resource: "kubernetes/labels/disk" }]);
  });

  test("credentials that the API does not take any more, as those of an expired client certificate", async () => {
    await isRefused({ kubeconfig: await changed("revoked", (text) => text.replaceAll("evenkeel-test-admin", "another")) }, /credentials.*expired/s);
  });

  test("an API whose own certificate has expired", async () => {
    const keys = await webcrypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({ name: "CN=kube", notBefore: new Date("2024-01-01"), notAfter: new Date("2024-01-02"), keys, signingAlgorithm: { name: "ECDSA", hash: "SHA-256" }, extensions: [new x509.BasicConstraintsExtension(true), new x509.SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }])] });
    const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
    const server = createServer({ cert: certificate.toString("pem"), key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n` }, (_, answer) => answer.end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const authority = Buffer.from(certificate.toString("pem")).toString("base64");
    try {
      await isRefused({ kubeconfig: await changed("expired", (text) => text.replace(/https:\/\/127\.0\.0\.1:\d+"/, `${address}"`).replace('"insecure-skip-tls-verify":true', `"certificate-authority-data":"${authority}"`)) }, /certificate.*has expired/s);
    } finally {
      server.close();
    }
  });

  test("a pod that ignores its grace period: the drain ends by its limit and names it, the node is opened again, and the next drain goes on", async () => {
    const web = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace: "default" }, spec: { replicas: 1, selector: { matchLabels: { app: "web" } }, template: { metadata: { labels: { app: "web" } }, spec: { terminationGracePeriodSeconds: 1, containers: [{ name: "c", image: "c" }] } } } };
    await kube.kubectl(["create", "-f", "-"], JSON.stringify(web));
    const pods = async () => (JSON.parse(await kube.kubectl(["get", "pods", "-l", "app=web", "-o", "json"])) as { items: { metadata: { name: string; deletionTimestamp?: string } }[] }).items;
    const [pod] = await until("the pod", pods, (found) => found.length === 1);
    const binding = { apiVersion: "v1", kind: "Binding", metadata: { name: pod!.metadata.name }, target: { apiVersion: "v1", kind: "Node", name: "n1" } };
    await kube.kubectl(["create", "--raw", `/api/v1/namespaces/default/pods/${pod!.metadata.name}/binding`, "-f", "-"], JSON.stringify(binding));
    await kube.podRuns("default", pod!.metadata.name);
    const written = { drain: { timeoutMinutes: 0.1 } };
    const [cordon, evict] = await drain(written);
    expect((await carryOut(cordon!.drain)).code).toBe(0);
    // Nobody ends the pod: its kubelet would kill it, unless it hangs in the kernel.
    const outcome = await carryOut(evict!.drain);
    expect([outcome.code, outcome.stderr]).toEqual([1, expect.stringMatching(new RegExp(`${pod!.metadata.name}.*global timeout reached`, "s"))]);
    expect((await pods()).filter(({ metadata }) => metadata.deletionTimestamp !== undefined).map(({ metadata }) => metadata.name)).toEqual([pod!.metadata.name]);
    expect((await carryOut(cordon!.undo!)).code).toBe(0);
    expect(await kube.kubectl(["get", "node", "n1", "-o", "jsonpath={.spec.unschedulable}"])).toBe("");

    // The next drain asks nothing new of it, and waits; its kubelet gets rid of it after all.
    const again = await drain(written);
    expect(again.map(({ cannot, already }) => [cannot, already])).toEqual([[undefined, false], [undefined, false]]);
    expect((await carryOut(again[0]!.drain)).code).toBe(0);
    const leaving = carryOut(again[1]!.drain);
    await kube.kubectl(["delete", "pod", pod!.metadata.name, "--grace-period=0", "--force"]);
    expect((await leaving).code).toBe(0);
    expect((await carryOut(again[0]!.undo!)).code).toBe(0);
  });

  // The last: it does not come back.
  test("an API that is away", async () => {
    const kubeconfig = await changed("away", (text) => text);
    await kube.stop();
    await isRefused({ kubeconfig }, /does not answer/);
  });
});
