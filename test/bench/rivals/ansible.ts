import { stringify } from "yaml";
import type { Rival } from "./rival.ts";

const playbook = "/srv/bench/site.yml";
const root = { owner: "root", group: "root", mode: "0644" };

/**
 * ansible-core 2.14 on the node itself, with what makes it faster: no gathering of facts, pipelining, the interpreter
 * named, all packages in one call of the module. Files and units are loops, as its manual writes them.
 */
export const ansible: Rival = {
  name: "ansible-playbook",
  packages: ["ansible-core", "python3-apt"],
  setUp: "true",

  configuration(state) {
    const files = [...state.files].map(([dest, content]) => ({ dest, content }));
    const units = [...state.units].map(([name, content]) => ({ dest: `/etc/systemd/system/${name}.service`, content }));
    const tasks = [
      { name: "packages", "ansible.builtin.apt": { name: state.packages, state: "present" } },
      { name: "files", "ansible.builtin.copy": { dest: "{{ item.dest }}", content: "{{ item.content }}", ...root }, loop: files, loop_control: { label: "{{ item.dest }}" } },
      { name: "unit files", "ansible.builtin.copy": { dest: "{{ item.dest }}", content: "{{ item.content }}", ...root }, loop: units, loop_control: { label: "{{ item.dest }}" } },
      { name: "services", "ansible.builtin.systemd": { name: "{{ item }}", state: "started", enabled: true }, loop: [...state.units.keys()] },
    ];
    const play = [{ hosts: "localhost", connection: "local", gather_facts: false, vars: { ansible_python_interpreter: "/usr/bin/python3" }, tasks }];
    return new Map([[playbook, stringify(play)]]);
  },

  apply: ["ansible-playbook", "-i", "localhost,", playbook],
  env: { ANSIBLE_PIPELINING: "1", ANSIBLE_NOCOLOR: "1", ANSIBLE_RETRY_FILES_ENABLED: "0" },
  foundNothingToDo: (outcome) => outcome.code === 0 && /\bchanged=0\b/.test(outcome.stdout) && /\bfailed=0\b/.test(outcome.stdout),
};
