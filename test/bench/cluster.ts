import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openCupboard } from "../e2e/real-cupboard.ts";
import type { RealCupboard } from "../e2e/real-cupboard.ts";
import { median, mib, ms, timedMs } from "./row.ts";
import type { Row } from "./row.ts";

/** With a hub and three nodes: a push until the third node has it, drift until it is repaired, memory and CPU at rest. */
export async function cluster(options: { readonly pushes: number; readonly minutes: number; readonly idleMinutes: number }, say: (message: string) => void): Promise<readonly Row[]> {
  const real = await openCupboard("bench-three", ["n1", "n2", "n3"], join(import.meta.dirname, "three"));
  try {
    const rows = [...(await push(real, options.pushes, say)), ...(await drift(real, options.pushes, say))];
    return [...rows, ...(await memory(real, options.minutes, say)), ...(await cpu(real, options.idleMinutes, say))];
  } finally {
    await real.close();
  }
}

async function push(real: RealCupboard, pushes: number, say: (message: string) => void): Promise<readonly Row[]> {
  const [own, after]: [number[], number[]] = [[], []];
  for (let at = 1; at <= pushes; at += 1) {
    say(`push ${at} of ${pushes}`);
    const text = `push ${at}\n`;
    await real.cupboard.git("commit", "-q", "--allow-empty", "-m", "begin");
    const { writeFile } = await import("node:fs/promises");
    await writeFile(join(real.cupboard.clone, "files", "plain"), text);
    await real.cupboard.git("commit", "-qam", `push ${at}`);
    own.push(await timedMs(() => real.cupboard.git("push", "-q", "origin", "HEAD:main")));
    after.push(await timedMs(() => Promise.all(real.lab.nodes.map((node) => has(join(real.lab.nodeRoot(node), "etc/plain"), text)))));
  }
  const ratio = median(after) / median(own);
  return [{ what: `push of one changed file until the last of three nodes has it, median of ${pushes}`, figure: `${ms(median(after))} after the push, which takes ${ms(median(own))} itself`, ratio: `${ratio.toFixed(2)} of the push's own time`, required: "2 s", met: median(after) <= 2_000 }];
}

async function has(path: string, text: string): Promise<void> {
  const deadlineMs = performance.now() + 60_000;
  while ((await readFile(path, "utf8").catch(() => "")) !== text) {
    if (performance.now() > deadlineMs) throw new Error(`${path} never became what was pushed`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function drift(real: RealCupboard, count: number, say: (message: string) => void): Promise<readonly Row[]> {
  const numbers = Array.from({ length: count }, (_, at) => at);
  say("preparing drift: as many files, packages and units as there are rounds, because a breaker would trip on one");
  for (const at of numbers) await real.lab.publish(`drift${at}`, "1");
  const node = {
    address: "10.77.0.11",
    roles: ["plain"],
    files: Object.fromEntries(numbers.map((at) => [`/etc/drift/${at}`, `file ${at}\n`])),
    packages: Object.fromEntries(numbers.map((at) => [`drift${at}`, "present"])),
    services: Object.fromEntries(numbers.map((at) => [`unit${at}.service`, { enabled: true, running: true, unit: "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n" }])),
  };
  await real.cupboard.push({ "nodes/n1.yaml": JSON.stringify(node) });
  await real.cupboard.waitConverged();
  const sh = (script: string) => real.lab.shell("n1", script, { timeoutMs: 120_000 });
  const until = (test: string) => timedMs(() => sh(`until ${test}; do sleep 0.01; done`));
  const times = { file: [] as number[], package: [] as number[], unit: [] as number[], apt: [] as number[] };
  for (const at of numbers) {
    say(`drift ${at + 1} of ${count}`);
    await sh(`echo drift > /etc/drift/${at}`);
    times.file.push(await until(`[ "$(cat /etc/drift/${at})" = "file ${at}" ]`));
    await sh(`systemctl stop unit${at}.service`);
    times.unit.push(await until(`systemctl is-active -q unit${at}.service`));
    await sh(`apt-get -y -q remove drift${at} >/dev/null`);
    times.package.push(await until(`[ -e /usr/share/drift${at} ] && dpkg-query -W -f '\${Status}' drift${at} | grep -q 'install ok installed'`));
  }
  await sh("systemctl stop evenkeel-agent");
  for (const at of numbers.slice(0, 5)) {
    await sh(`apt-get -y -q remove drift${at} >/dev/null`);
    times.apt.push(await timedMs(() => sh(`apt-get -y -q install drift${at} >/dev/null`)));
  }
  await sh("systemctl start evenkeel-agent");
  const apt = median(times.apt);
  const row = (what: string, own: readonly number[], limitMs: number, required: string): Row => ({ what: `drift of a ${what} until repaired, median of ${count}`, figure: `${ms(median(own))}`, ratio: `${(median(own) / apt).toFixed(2)} of one apt-get install (${ms(apt)})`, required, met: median(own) <= limitMs });
  return [row("file", times.file, 2_000, "2 s"), row("unit", times.unit, 2_000, "2 s"), row("package", times.package, 2_000 + apt, "2 s and apt's own time")];
}

async function memoryOf(real: RealCupboard, pid: string): Promise<{ rss: number; pss: number; anon: number }> {
  const text = (await real.lab.shell("n1", `cat /proc/${pid}/smaps_rollup`)).stdout;
  const field = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(text)?.[1] ?? Number.NaN);
  return { rss: field("Rss"), pss: field("Pss"), anon: field("Pss_Anon") };
}

const agentPid = async (real: RealCupboard) => (await real.lab.shell("n1", "systemctl show -p MainPID --value evenkeel-agent")).stdout.trim();

async function memory(real: RealCupboard, minutes: number, say: (message: string) => void): Promise<readonly Row[]> {
  await real.lab.shell("n1", "systemctl restart evenkeel-agent");
  await real.cupboard.waitConverged();
  const pid = await agentPid(real);
  const endMs = performance.now() + minutes * 60_000;
  const early: number[] = [];
  let pushes = 0;
  while (performance.now() < endMs) {
    pushes += 1;
    await real.cupboard.push({ "files/plain": `memory ${pushes}\n` });
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    const now = await memoryOf(real, pid);
    // What comes after the first minutes is growth; what comes before is settling in.
    if (performance.now() < endMs - (minutes * 60_000 * 2) / 3) early.push(now.rss);
    say(`memory after ${pushes} pushes: ${mib(now.rss)}`);
  }
  await real.cupboard.waitConverged();
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  const end = await memoryOf(real, pid);
  const barePid = (await real.lab.shell("n1", "/usr/lib/evenkeel/node -e 'setInterval(() => {}, 1e9)' >/dev/null 2>&1 & echo $!; sleep 2")).stdout.trim();
  const bare = await memoryOf(real, barePid);
  await real.lab.shell("n1", `kill ${barePid}`);
  return [
    { what: `agent's memory at rest, linked to the hub, after ${minutes} minutes and ${pushes} pushes, beside bare Node`, figure: `RSS ${mib(end.rss)} (PSS ${mib(end.pss)}, of it its own ${mib(end.anon)}); bare Node RSS ${mib(bare.rss)}`, ratio: `${(end.rss / bare.rss).toFixed(2)} of bare Node`, required: "85 MB RSS", met: end.rss * 1.024 <= 85_000 },
    { what: "… growth: at the end against the median of the first third", figure: `${mib(end.rss)} against ${mib(median(early))}`, ratio: `${(end.rss / median(early)).toFixed(3)} times`, required: "none", met: end.rss <= median(early) * 1.05 },
  ];
}

async function cpu(real: RealCupboard, minutes: number, say: (message: string) => void): Promise<readonly Row[]> {
  const pid = await agentPid(real);
  const ticks = async () => {
    const fields = (await real.lab.shell("n1", `cat /proc/${pid}/stat`)).stdout.replace(/^.*\) /, "").split(" ");
    // utime, stime, cutime, cstime: fields 14 to 17 of proc_pid_stat(5), the first two of which are cut off here.
    return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  };
  say(`${minutes} minutes of rest`);
  const [before, startMs] = [await ticks(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, minutes * 60_000));
  const seconds = (performance.now() - startMs) / 1_000;
  const share = ((await ticks()) - before) / 100 / seconds;
  return [{ what: `agent's CPU at rest, ${minutes} minutes, its processes included`, figure: `${(share * 1_000).toFixed(2)} ms a second`, ratio: `${(share * 100).toFixed(3)} % of a core`, required: "0.3 %", met: share <= 0.003 }];
}
