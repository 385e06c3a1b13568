import type { Rival } from "./rival.ts";

const policy = "/srv/bench/bench.cf";
const masterfiles = "/usr/share/cfengine3/masterfiles";
const modules = "/var/lib/cfengine3/modules/packages/vendored";

/**
 * CFEngine 3.21 with Debian's own standard library: its apt module (which is a template that the product's bootstrap
 * fills in) and its bundle for systemd. The class `systemd`, which its inventory would find out, is given.
 */
export const cfengine: Rival = {
  name: "cfengine3 (cf-agent)",
  packages: ["cfengine3", "python3"],
  setUp: [
    "systemctl disable -q --now cfengine3 2>/dev/null || true",
    `mkdir -p ${modules}`,
    `cp ${masterfiles}/modules/packages/vendored/apt_get.mustache ${modules}/apt_get && chmod 700 ${modules}/apt_get`,
    "[ -e /var/lib/cfengine3/ppkeys/localhost.priv ] || cf-key >/dev/null",
  ].join("; "),

  configuration(state) {
    const unitFiles = [...state.units].map(([name, text]) => [`/etc/systemd/system/${name}.service`, text] as const);
    const files = [...state.files, ...unitFiles].map(([path, text]) => `    ${quoted(path)} create => "true", perms => bench_file, content => ${quoted(text)};`);
    const lines = [
      "body common control",
      "{",
      '  bundlesequence => { "bench" };',
      `  inputs => { "${masterfiles}/lib/stdlib.cf" };`,
      "}",
      "body package_module apt_get_here",
      "{",
      '  interpreter => "/usr/bin/python3";',
      `  module_path => "${modules}/apt_get";`,
      '  query_installed_ifelapsed => "0";',
      '  query_updates_ifelapsed => "1440";',
      "}",
      "body perms bench_file",
      "{",
      '  mode => "644"; owners => { "root" }; groups => { "root" }; rxdirs => "false";',
      "}",
      "bundle common bench_classes",
      "{",
      "  classes:",
      '    "systemd" expression => "any";',
      "}",
      "bundle agent bench",
      "{",
      "  vars:",
      `    "packages" slist => { ${state.packages.map(quoted).join(", ")} };`,
      `    "services" slist => { ${[...state.units.keys()].map(quoted).join(", ")} };`,
      "  files:",
      ...files,
      "  packages:",
      '    "$(packages)" policy => "present", package_module => apt_get_here;',
      "  services:",
      '    "$(services)" service_policy => "start";',
      "}",
    ];
    return new Map([[policy, `${lines.join("\n")}\n`]]);
  },

  apply: ["cf-agent", "-K", "-f", policy],
  check: ["cf-agent", "-KI", "-f", policy],
  /** With -I it says each repair as an `info:` line, and failures as errors; silence is agreement. */
  foundNothingToDo: (outcome) => outcome.code === 0 && !/^\s*(info|error|warning):/im.test(outcome.stdout + outcome.stderr),
};

function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
