/** The same state of a machine for Evenkeel and for its rivals: packages that are there, files, and units that run. */
export interface State {
  readonly packages: readonly string[];
  readonly files: number;
  readonly units: number;
}

const fileText = (at: number) => `this is file ${at}\n${"a line of some length, so that there is something to read\n".repeat(10)}`;
const filePath = (at: number) => `/etc/bench/f${String(at).padStart(4, "0")}`;
const unitName = (at: number) => `bench${String(at).padStart(3, "0")}.service`;
const unitText = "[Unit]\nDescription=bench\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

const range = (count: number) => Array.from({ length: count }, (_, at) => at);

export function asNodeFile(state: State): string {
  const node = {
    address: "10.77.0.1",
    packages: Object.fromEntries(state.packages.map((name) => [name, "present"])),
    files: Object.fromEntries(range(state.files).map((at) => [filePath(at), { content: fileText(at) }])),
    services: Object.fromEntries(range(state.units).map((at) => [unitName(at), { enabled: true, running: true, unit: unitText }])),
  };
  // JSON is YAML.
  return JSON.stringify(node, null, 1);
}

export function asPuppet(state: State): string {
  return [
    ...state.packages.map((name) => `package { '${name}': ensure => installed }`),
    "file { '/etc/bench': ensure => directory }",
    ...range(state.files).map((at) => `file { '${filePath(at)}': content => "${fileText(at).replaceAll("\n", "\\n")}", mode => '0644', owner => 'root', group => 'root' }`),
    ...range(state.units).flatMap((at) => [
      `file { '/etc/systemd/system/${unitName(at)}': content => "${unitText.replaceAll("\n", "\\n")}", mode => '0644' }`,
      `service { '${unitName(at)}': ensure => running, enable => true, provider => systemd }`,
    ]),
  ].join("\n");
}

export function asCfengine(state: State): string {
  const list = (items: readonly string[]) => `{ ${items.map((item) => `"${item}"`).join(", ")} }`;
  return `
body common control { bundlesequence => { "bench" }; }
body file control { inputs => { "/usr/share/cfengine3/masterfiles/lib/stdlib.cf", "$(sys.libdir)/stdlib.cf" }; }
bundle agent bench
{
vars:
  "units" slist => ${list(range(state.units).map(unitName))};
packages:
${state.packages.map((name) => `  "${name}" policy => "present", package_module => apt_get;`).join("\n")}
files:
${range(state.files).map((at) => `  "${filePath(at)}" create => "true", perms => bench_mode, edit_template_string => "${fileText(at).replaceAll("\n", "$(const.n)")}", template_method => "inline_mustache", template_data => "{}";`).join("\n")}
${range(state.units).map((at) => `  "/etc/systemd/system/${unitName(at)}" create => "true", edit_template_string => "${unitText.replaceAll("\n", "$(const.n)")}", template_method => "inline_mustache", template_data => "{}";`).join("\n")}
services:
  "$(units)" service_policy => "start";
}
body perms bench_mode { mode => "644"; owners => { "root" }; }
`;
}

export function asAnsible(state: State): string {
  const tasks = [
    { apt: { name: state.packages, state: "present" } },
    ...range(state.files).map((at) => ({ copy: { dest: filePath(at), content: fileText(at), mode: "0644", owner: "root", group: "root" } })),
    ...range(state.units).map((at) => ({ copy: { dest: `/etc/systemd/system/${unitName(at)}`, content: unitText, mode: "0644" } })),
    ...range(state.units).map((at) => ({ systemd: { name: unitName(at), state: "started", enabled: true } })),
  ];
  return JSON.stringify([{ hosts: "localhost", connection: "local", gather_facts: false, tasks }]);
}
