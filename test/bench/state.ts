/** What a node is to be, in no product's language: each of them gets the same. */
export interface State {
  readonly packages: readonly string[];
  /** Path to content. Of root, mode 0644. */
  readonly files: ReadonlyMap<string, string>;
  /** Name without `.service`, to the unit file. Enabled and running. */
  readonly units: ReadonlyMap<string, string>;
}

export interface Counts {
  readonly packages: number;
  readonly files: number;
  readonly units: number;
}

export const usual: Counts = { packages: 50, files: 50, units: 20 };
export const tenfold: Counts = { packages: 500, files: 500, units: 200 };

/** @param installed names to choose the packages from: nobody shall have anything to install. */
export function makeState(counts: Counts, installed: readonly string[]): State {
  if (installed.length < counts.packages) throw new Error(`only ${installed.length} packages are installed, ${counts.packages} are to be declared`);
  return {
    packages: installed.slice(0, counts.packages),
    files: new Map(numbers(counts.files).map((n) => [filePath(n), fileText(n)])),
    units: new Map(numbers(counts.units).map((n) => [unitName(n), unitText(n)])),
  };
}

export const filePath = (n: number) => `/etc/bench/${numbered("settings", n)}.conf`;
export const unitName = (n: number) => numbered("bench", n);
/** Written by the unit when it starts, so that a start can be seen from outside without asking systemd. */
export const startedPath = (unit: string) => `/var/lib/bench/${unit}`;

/** About a kilobyte of what a configuration file looks like. */
function fileText(n: number): string {
  const lines = numbers(20).map((line) => `option_${line} = ${(n * 7919 + line * 104_729) % 1_000_003} ; of file ${n}`);
  return `# settings ${n}\n${lines.join("\n")}\n`;
}

/** One half stays there as a process, the other ran once and counts as active. */
function unitText(n: number): string {
  const started = `/bin/sh -c 'echo started >${startedPath(unitName(n))}'`;
  const service = n % 2 === 0 ? ["Type=oneshot", "RemainAfterExit=yes", `ExecStart=${started}`] : [`ExecStartPre=${started}`, "ExecStart=/bin/sleep infinity"];
  const lines = ["[Unit]", `Description=Service ${n} of the bench`, "[Service]", ...service, "StateDirectory=bench", "[Install]", "WantedBy=multi-user.target", ""];
  return lines.join("\n");
}

export const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
const numbered = (name: string, n: number) => `${name}-${String(n).padStart(3, "0")}`;
