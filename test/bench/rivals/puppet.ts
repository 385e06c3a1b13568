import type { Rival } from "./rival.ts";

const manifest = "/srv/bench/site.pp";

/** Puppet 7, masterless: `puppet apply`, packages and services as arrays so that its providers can ask for all at once. */
export const puppet: Rival = {
  name: "puppet apply",
  packages: ["puppet-agent"],
  setUp: "systemctl disable -q --now puppet.service 2>/dev/null || true",

  configuration(state) {
    const unitFiles = [...state.units].map(([name, text]) => [`/etc/systemd/system/${name}.service`, text] as const);
    const files = [...state.files, ...unitFiles].map(([path, text]) => `  ${quoted(path)}: content => ${quoted(text)};`);
    const lines = [
      `package { [${state.packages.map(quoted).join(", ")}]: ensure => installed }`,
      "file {",
      "  default: ensure => file, owner => 'root', group => 'root', mode => '0644';",
      ...files,
      "}",
      `service { [${[...state.units.keys()].map(quoted).join(", ")}]: ensure => running, enable => true }`,
    ];
    return new Map([[manifest, `${lines.join("\n")}\n`]]);
  },

  apply: ["puppet", "apply", "--detailed-exitcodes", manifest],
  /** puppet-apply(8): 2 means that there were changes, 4 and 6 that something failed. */
  foundNothingToDo: (outcome) => outcome.code === 0,
};

/** Single-quoted strings know \\ and \' only. */
function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
