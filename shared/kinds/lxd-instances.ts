import type { Owned, ResourceId, Step, StepCommon } from "./kind.ts";
import { apiPath, change, differing, titleOf } from "./lxd-api.ts";
import type { Product } from "./lxd-api.ts";
import { isOnline, writesForAll } from "./lxd-cluster.ts";
import type { Instance, LxdFacts } from "./lxd-facts.ts";
import { differingDevices, inProject, needs, ownedKeys, whyOf } from "./lxd-objects.ts";
import { joinName, splitName } from "./lxd-section.ts";
import type { LxdWant } from "./lxd-section.ts";
import { forgetStep } from "./managed-file.ts";

/** Images by their fingerprint, and instances: made, changed and started, and never deleted. */

const IMPORT_TIMEOUT_MS = 30 * 60_000;
const CREATE_TIMEOUT_MS = 15 * 60_000;
const START_TIMEOUT_MS = 180_000;
const FETCH_DIR = "/var/cache/evenkeel/lxd";

export function planImages(want: LxdWant, facts: LxdFacts, owned: Owned): readonly Step[] {
  const { product } = facts;
  if (product === null || !writesForAll(want, facts)) return [];
  const gone = ownedKeys(owned, "images").flatMap(([key, claim]): readonly Step[] => {
    if (want.images[key] !== undefined) return [];
    const [project] = splitName(key);
    const resource: ResourceId = `lxd/images/${key}`;
    const fingerprint = typeof claim === "object" && claim !== null && "fingerprint" in claim ? claim["fingerprint"] : null;
    if (typeof fingerprint !== "string" || facts.images.get(project)?.some((image) => image.fingerprint === fingerprint) !== true) return [forgetStep(resource, "is gone already")];
    return [{ resource, why: "is not in the repository any more; instances made from it do not need it", impact: "none", removes: true, release: true, do: "run", argv: [product.client, "image", "delete", fingerprint, ...inProject(project)], timeoutMs: START_TIMEOUT_MS }];
  });
  return [...gone, ...Object.keys(want.images).toSorted().flatMap((key) => planImage(key, want, facts, product))];
}

function planImage(key: string, want: LxdWant, facts: LxdFacts, product: Product): readonly Step[] {
  const wanted = want.images[key]!;
  const [project, alias] = splitName(key);
  const resource: ResourceId = `lxd/images/${key}`;
  const common = (why: string): StepCommon => ({ resource, why, impact: "none", ...needs(want, project, {}) });
  const there = facts.images.get(project) ?? [];
  const image = there.find(({ fingerprint }) => fingerprint === wanted.fingerprint);
  const holder = there.find(({ aliases }) => aliases.includes(alias));
  if (image === undefined) {
    const path = wanted.file ?? `${FETCH_DIR}/${wanted.fingerprint}`;
    if (wanted.file !== undefined) {
      const sum = facts.sums.get(wanted.file);
      if (sum === null || sum === undefined) return [{ ...common("is not there"), do: "fail", message: `there is no ${wanted.file} on this node, which is the one that imports images now: bring it here (files, downloads), or write url:` }];
      if (sum !== wanted.fingerprint) return [{ ...common("is not there"), do: "fail", message: `${wanted.file} has the fingerprint ${sum}, and ${wanted.fingerprint} is wanted: it is not imported. Either the file was changed or cut short, or the repository has an old fingerprint` }];
    }
    const fetched: Step[] = wanted.url === undefined ? [] : [{ ...common("its file is fetched"), do: "download", path, urls: [wanted.url], sha256: wanted.fingerprint, mode: 0o600, owner: "root", group: "root", timeoutMs: IMPORT_TIMEOUT_MS, sizeMaxBytes: wanted.sizeMaxBytes, replace: true }];
    return [
      ...fetched,
      { ...common(holder === undefined ? "is not there" : `the alias leads to ${holder.fingerprint.slice(0, 12)}, should to ${wanted.fingerprint.slice(0, 12)}`), claim: { fingerprint: wanted.fingerprint }, do: "run", argv: [product.client, "image", "import", path, ...inProject(project)], timeoutMs: IMPORT_TIMEOUT_MS },
      ...aliasSteps(product, project, alias, wanted.fingerprint, holder !== undefined, common("its alias")),
    ];
  }
  if (image.aliases.includes(alias)) return [];
  return aliasSteps(product, project, alias, wanted.fingerprint, holder !== undefined, common(holder === undefined ? "has no alias" : `the alias leads to ${holder.fingerprint.slice(0, 12)}, should to ${wanted.fingerprint.slice(0, 12)}`));
}

function aliasSteps(product: Product, project: string, alias: string, target: string, isThere: boolean, common: StepCommon): readonly Step[] {
  const query: Record<string, string> = project === "default" ? {} : { project };
  if (isThere) return [change(product, "PUT", apiPath(["images", "aliases", alias], query), { target }, common)];
  return [change(product, "POST", apiPath(["images", "aliases"], query), { name: alias, target }, common)];
}

export function planInstances(want: LxdWant, facts: LxdFacts): readonly Step[] {
  const { product } = facts;
  if (product === null || !writesForAll(want, facts)) return [];
  return Object.keys(want.instances).toSorted().flatMap((key) => planInstance(key, want, facts, product));
}

function planInstance(key: string, want: LxdWant, facts: LxdFacts, product: Product): readonly Step[] {
  const wanted = want.instances[key]!;
  const [project, name] = splitName(key);
  const resource: ResourceId = `lxd/instances/${key}`;
  const imageKey = want.images[joinName(project, wanted.image)] === undefined ? wanted.image : joinName(project, wanted.image);
  const profiles = wanted.profiles.flatMap((profile): ResourceId[] => (want.profiles[joinName(project, profile)] === undefined ? [] : [`lxd/profiles/${joinName(project, profile)}`]));
  const image: ResourceId[] = want.images[imageKey] === undefined ? [] : [`lxd/images/${imageKey}`];
  const common = (why: string, impact: "none" | "service" = "service"): StepCommon => ({ resource, why, impact, ...needs(want, project, wanted.devices, [...profiles, ...image]) });
  const start = (why: string): Step => ({ ...common(why), do: "run", argv: [product.client, "start", name, ...inProject(project)], timeoutMs: START_TIMEOUT_MS });
  const have = facts.instances.get(key);
  if (have === undefined) {
    const fellow = want.among?.fellows.find(({ name }) => name === wanted.target);
    if (fellow !== undefined && !facts.members.some(({ server_name, status }) => server_name === fellow.name && isOnline(status))) return [{ ...common("is not there", "none"), do: "fail", message: `${name} is to be made on ${fellow.name}, which is no member or not online now: it is made when ${fellow.name} is` }];
    const from = want.images[imageKey]?.fingerprint ?? wanted.image;
    const flags = [...wanted.profiles.flatMap((profile) => ["--profile", profile]), ...(wanted.profiles.length === 0 ? ["--no-profiles"] : []), ...(wanted.type === "virtual-machine" ? ["--vm"] : []), ...(wanted.target === undefined || facts.members.length === 0 ? [] : ["--target", wanted.target])];
    const body = { config: wanted.config, devices: wanted.devices, ...(wanted.description === undefined ? {} : { description: wanted.description }) };
    const made: Step = { ...common("is not there", "none"), do: "run", argv: [product.client, "init", from, name, ...flags, ...inProject(project)], input: `${JSON.stringify(body)}\n`, timeoutMs: CREATE_TIMEOUT_MS };
    return wanted.running ? [made, start("was just made")] : [made];
  }
  // The member that has it does not answer: the others know no more of it than its name, and the gate says that.
  if (have.type === "") return [];
  if (have.type !== wanted.type) return [{ ...common(`it is a ${have.type}`), do: "fail", message: `${name} is a ${have.type}, and a ${wanted.type} is wanted: one cannot become the other. Give the new one another name` }];
  const edit = editStep(wanted, have, product, project, common);
  const host = facts.members.find(({ server_name }) => server_name === have.location);
  if (host !== undefined && !isOnline(host.status)) return [];
  return [...edit, ...(wanted.running && have.status.toLowerCase() === "stopped" ? [start("is stopped, and should run")] : [])];
}

function editStep(wanted: LxdWant["instances"][string], have: Instance, product: Product, project: string, common: (why: string) => StepCommon): readonly Step[] {
  const config = differing(wanted.config, have.config);
  const devices = differingDevices(wanted.devices, have.devices);
  const description = wanted.description !== undefined && wanted.description !== have.description ? wanted.description : undefined;
  const profiles = JSON.stringify(wanted.profiles) === JSON.stringify(have.profiles) ? undefined : wanted.profiles;
  const why = [whyOf(config, devices, description), ...(profiles === undefined ? [] : [`its profiles are ${have.profiles.join(", ") || "none"}, should be ${profiles.join(", ") || "none"}`])].filter((part) => part !== "").join("; ");
  if (why === "") return [];
  const next = Object.fromEntries(Object.entries({ ...have.config, ...config }).filter(([, value]) => value !== ""));
  const body = { architecture: have.architecture, config: next, devices: { ...have.devices, ...devices }, ephemeral: have.ephemeral, profiles: profiles ?? have.profiles, stateful: have.stateful, description: description ?? have.description };
  return [{ ...common(`${titleOf(product)}: ${why}`), do: "run", argv: [product.client, "config", "edit", have.name, ...inProject(project)], input: `${JSON.stringify(body)}\n`, timeoutMs: START_TIMEOUT_MS }];
}
