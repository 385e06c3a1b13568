import { typeOf } from "./disks-blocks.ts";
import type { Block } from "./disks-blocks.ts";
import { blocked, fail, planContent, resourceOf } from "./disks-content.ts";
import type { Planning, State } from "./disks-content.ts";
import { arrayPlace, placesOf } from "./disks-places.ts";
import type { Place } from "./disks-places.ts";
import { FORMAT_TIMEOUT_MS, lookAgain, onBlank, run } from "./disks-tools.ts";
import type { Argv } from "./disks-tools.ts";
import { pathOf } from "./disks-units.ts";
import type { Step, StepCommon } from "./kind.ts";

/** What is made of several disks: software RAID and ZFS pools. Volume groups are in disks-volumes.ts. */

export interface Member {
  readonly place: Place;
  readonly path: string;
  readonly state: State;
}

export function membersOf(plan: Planning, sort: "lvm" | "md" | "zfs", name: string): readonly Member[] {
  return placesOf(plan.want)
    .filter(({ held }) => held[sort] === name)
    .map((place) => ({ place, path: pathOf(place, plan.want, plan.facts.disks), state: plan.states.get(place.key) ?? { is: "later" } }));
}

export function planArray(plan: Planning, name: string): Step[] {
  const place = arrayPlace(name, plan.want);
  const block = plan.facts.made.get(place.path!);
  const members = membersOf(plan, "md", name);
  const steps = block === undefined ? makeArray(plan, name, members) : keepArray(plan, name, block, members);
  return [...steps, ...planContent(plan, place, [place.key])];
}

function makeArray(plan: Planning, name: string, members: readonly Member[]): Step[] {
  const { level, spares } = plan.want.arrays[name]!;
  const key = `md/${name}`;
  const common = { ...commonOf(key, members), why: `does not exist, should be a RAID ${level} of ${members.length}` };
  const give = (state: State, steps: Step[]): Step[] => {
    plan.states.set(key, state);
    return steps;
  };
  if (members.length - spares < (level === 0 || level === 1 ? 2 : level === 6 ? 4 : level === 10 ? 2 : 3)) {
    return give({ is: "lost", because: key }, [fail(key, common.why, `a RAID ${level} needs more members than the ${members.length - spares} that say md: ${name} and are no spares: declare more disks for it.`)]);
  }
  const lost = lostAmong(members);
  const there = members.filter(({ state }) => state.is === "there");
  // An array that was made once can be assembled without one of its members; it can only be made with all of them.
  if (lost !== null && there.length === 0) return give({ is: "lost", because: lost }, [blocked(key, common.why, lost)]);
  const path = `/dev/md/${name}`;
  if (there.length > 0) {
    const argv: Argv = ["mdadm", "--assemble", path, ...there.map((member) => member.path)];
    return give({ is: "later" }, [run({ ...common, needs: there.map(({ place }) => resourceOf(place.key)), why: "its members are there, and it is not assembled" }, argv)]);
  }
  const argv: Argv = [
    "mdadm",
    "--create",
    path,
    // Without a question, and without harm: all members were found blank a moment ago.
    "--run",
    "--metadata=1.2",
    // The same name in whatever machine the disks are: mdadm(8), --homehost.
    "--homehost=any",
    `--name=${name}`,
    `--level=${level}`,
    ...(level === 0 ? [] : ["--bitmap=internal"]),
    `--raid-devices=${members.length - spares}`,
    ...(spares === 0 ? [] : [`--spare-devices=${spares}`]),
    ...members.map((member) => member.path),
  ];
  const paths = members.map((member) => member.path);
  return give({ is: "blank" }, [run(common, onBlank(paths, argv), { timeoutMs: FORMAT_TIMEOUT_MS }), ...paths.map((member) => run({ ...common, why: "udev has to see the members" }, lookAgain(member)))]);
}

function keepArray(plan: Planning, name: string, block: Block, members: readonly Member[]): Step[] {
  const { level } = plan.want.arrays[name]!;
  const key = `md/${name}`;
  plan.states.set(key, { is: "there", block });
  const is = block.properties.get("MD_LEVEL");
  if (is !== undefined && is !== `raid${level}`) {
    plan.states.set(key, { is: "lost", because: key });
    return [fail(key, `is ${is}, should be raid${level}`, `the array ${name} is ${is}, and the section says level ${level}: a level is never changed. Correct the section, or change it by hand (mdadm --grow).`)];
  }
  return members.flatMap(({ place, path, state }) => {
    const inUse = state.is === "there" && state.block.holders.includes(block.name);
    if (inUse || state.is === "lost" || state.is === "later") return [];
    const common: StepCommon = { resource: resourceOf(`${key}/${place.key}`), why: `${place.key} should be a member, and is not`, impact: "none", needs: [resourceOf(place.key)] };
    // A member that fell out is taken back by its own superblock; a blank one is filled anew.
    if (state.is === "there") return [run(common, ["mdadm", "--manage", `/dev/md/${name}`, "--re-add", path])];
    return [run(common, onBlank([path], ["mdadm", "--manage", `/dev/md/${name}`, "--add", path])), run(common, lookAgain(path))];
  });
}

/** The resource whose failure keeps a member away, or null when all are there. */
export function lostAmong(members: readonly Member[]): string | null {
  return members.map(({ state }) => (state.is === "lost" ? state.because : null)).find((because) => because !== null) ?? null;
}

export function commonOf(key: string, members: readonly Member[]): StepCommon {
  return { resource: resourceOf(key), why: "", impact: "none", needs: members.map(({ place }) => resourceOf(place.key)) };
}

export function planPool(plan: Planning, name: string): Step[] {
  const report = plan.facts.zfs!;
  const wanted = plan.want.zpools[name]!;
  const key = `zfs/${name}`;
  const members = membersOf(plan, "zfs", name);
  const common = commonOf(key, members);
  if (report.error !== null) return [fail(key, "ZFS does not answer", `${report.error}. Nothing of the pool ${name} was changed.`)];
  const health = report.pools.get(name);
  const steps: Step[] = [];
  if (health === undefined) {
    const there = members.filter(({ state }) => state.is === "there" && typeOf(state.block) === "zfs_member");
    if (there.length > 0) {
      steps.push(run({ ...common, needs: there.map(({ place }) => resourceOf(place.key)), why: "its members are there, and it is not imported" }, ["zpool", "import", "-d", "/dev/disk/by-id", name]));
    } else if (members.length === 0) {
      return [fail(key, "has no members", `nothing says zfs: ${name}: write it at the disks that the pool is to be made of.`)];
    } else if (lostAmong(members) !== null) {
      return [blocked(key, "does not exist", lostAmong(members)!)];
    } else {
      const layout = wanted.layout === "stripe" ? [] : [wanted.layout];
      const options = Object.entries(wanted.options).flatMap(([option, value]) => ["-o", `${option}=${value}`]);
      // Without -f, zpool itself refuses whatever it knows to be in use.
      const paths = members.map(({ path }) => path);
      steps.push(run({ ...common, why: `does not exist, should be a ${wanted.layout} of ${members.length}` }, onBlank(paths, ["zpool", "create", ...options, "-m", "none", name, ...layout, ...paths]), { timeoutMs: FORMAT_TIMEOUT_MS }));
    }
  }
  return [...steps, ...Object.keys(wanted.datasets).toSorted().flatMap((dataset) => planDataset(plan, name, dataset, health === undefined))];
}

function planDataset(plan: Planning, pool: string, dataset: string, isNewPool: boolean): Step[] {
  const full = `${pool}/${dataset}`;
  const { properties } = plan.want.zpools[pool]!.datasets[dataset]!;
  const is = isNewPool ? undefined : plan.facts.zfs!.datasets.get(full);
  const common: StepCommon = { resource: resourceOf(`zfs/${full}`), why: "", impact: "none", needs: [resourceOf(`zfs/${pool}`)] };
  if (is === undefined) {
    const set = Object.entries(properties).flatMap(([property, value]) => ["-o", `${property}=${value}`]);
    return [run({ ...common, why: "does not exist" }, ["zfs", "create", "-p", ...set, full])];
  }
  const wrong = Object.entries(properties).filter(([property, value]) => is.get(property) !== value);
  if (wrong.length === 0) return [];
  return [run({ ...common, impact: "service", why: wrong.map(([property, value]) => `${property} is ${is.get(property) ?? "not set"}, should be ${value}`).join("; ") }, ["zfs", "set", ...wrong.map(([property, value]) => `${property}=${value}`), full])];
}
