import { execFileSync } from "node:child_process";
import { constants, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Check } from "../../shared/config/policy.ts";
import { systemClock } from "../system-clock.ts";
import type { Clock } from "../../shared/clock.ts";
import { HandClock } from "./hand-clock.ts";
import { look, type LookResult } from "./look.ts";
import { SharedNames } from "./names.ts";

const directory = mkdtempSync(join(tmpdir(), "evenkeel-look-command-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const path = process.env["PATH"] ?? "";

function lookAt(written: unknown, clock: Clock = systemClock, searchPath = path): Promise<LookResult> {
  return look(Check.parse(written), { clock, names: new SharedNames(), trust: () => undefined, searchPath });
}

function sh(script: string, timeoutSeconds = 60): object {
  return { command: ["bash", "-c", script], timeoutSeconds };
}

/** What others write into a named pipe. Its end comes when the last of them is gone: proof that nothing is left behind. */
class Pipe {
  readonly path: string;
  readonly #lines: AsyncIterator<string>;

  constructor(name: string) {
    this.path = join(directory, name);
    execFileSync("mkfifo", [this.path]);
    // Without O_NONBLOCK, open(2) would hold one of libuv's few threads until somebody writes (fifo(7)).
    const socket = new Socket({ fd: openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false });
    this.#lines = socket.setEncoding("utf8")[Symbol.asyncIterator]();
  }

  async next(): Promise<string | null> {
    const { done, value } = await this.#lines.next();
    return done === true ? null : value;
  }
}

describe("command", () => {
  test("exit code 0 is well, whatever is printed", async () => {
    expect(await lookAt(sh("echo trouble >&2"))).toMatchObject({ ok: true });
  });

  test("anything else has failed, with the last line that was printed", async () => {
    expect(await lookAt({ command: ["sh", "-c", "echo one; echo two; exit 3"] })).toMatchObject({ ok: false, looked: true, message: "sh -c echo one; echo two; exit 3 ended with exit code 3: two" });
    const result = await lookAt(sh("printf 'on stdout'; printf '\\033[31mred\\a\\n\\n' >&2; exit 2"));
    expect(result).toMatchObject({ ok: false, message: expect.stringMatching(/ended with exit code 2: red$/) });
    expect(await lookAt(sh("kill -SEGV $$"))).toMatchObject({ ok: false, looked: true, message: expect.stringMatching(/was ended by SIGSEGV/) });
  });

  test("no shell is between: arguments arrive as they are", async () => {
    const result = await lookAt({ command: ["sh", "-c", 'printf "%s|" "$@"; exit 1', "x", "a b", "$(id)", "*"] });
    expect(result).toMatchObject({ message: expect.stringMatching(/: a b\|\$\(id\)\|\*\|$/) });
  });

  test("the environment has PATH, LC_ALL and HOME, nothing of the hub's; input is empty", async () => {
    const env = JSON.stringify("Object.keys(process.env).filter((name) => name !== '_').sort().join()").slice(1, -1);
    expect(await lookAt({ command: [process.execPath, "-e", `console.log(${env}, require("fs").readFileSync(0).length, process.cwd()); process.exit(1)`] })).toMatchObject({ message: expect.stringMatching(/: HOME,LC_ALL,PATH 0 \/$/) });
  });

  test("endless output is read and forgotten, but for its end", async () => {
    expect(await lookAt(sh("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1"))).toMatchObject({ message: expect.stringMatching(/: the end$/) });
    const result = await lookAt(sh("head -c 100000 /dev/zero | tr '\\0' x; exit 1"));
    expect(result.ok ? 0 : result.message.length).toBe(500);
  });

  test("a program that is missing or not executable means that the hub cannot look", async () => {
    expect(await lookAt({ command: ["no-such-program", "x"] })).toMatchObject({ ok: false, looked: false, message: "cannot run no-such-program x on the hub's machine: no-such-program is not there; install it, or correct the check in cluster.yaml" });
    const file = join(directory, "not-executable");
    writeFileSync(file, "#!/bin/sh\n", { mode: 0o600 });
    expect(await lookAt({ command: [file] })).toMatchObject({ ok: false, looked: false, message: expect.stringMatching(/may not be executed/) });
  });

  test("at the timeout comes SIGTERM, a second later SIGKILL, for all of the group", async () => {
    const clock = new HandClock();
    const pipe = new Pipe("stubborn");
    // The child ignores SIGTERM; so does the grandchild, and it holds the output's pipe.
    const looking = lookAt(sh(`exec 3>${pipe.path}; trap 'printf "not yet" >&3' TERM; (trap '' TERM; printf ready >&3; exec sleep 1000) & while :; do wait; done`, 5), clock);
    expect(await pipe.next()).toBe("ready");
    clock.advance(5_000);
    expect(await pipe.next()).toBe("not yet");
    clock.advance(1_000);
    expect(await looking).toMatchObject({ ok: false, looked: true, message: expect.stringMatching(/ did not end within 5 s$/) });
    expect(await pipe.next()).toBeNull();
  });

  test("a child that obeys SIGTERM may tidy up and say why", async () => {
    const clock = new HandClock();
    const pipe = new Pipe("obedient");
    const looking = lookAt(sh(`exec 3>${pipe.path}; trap 'echo still waiting for the lock; exit 0' TERM; printf ready >&3; sleep 1000 & wait`, 5), clock);
    expect(await pipe.next()).toBe("ready");
    clock.advance(5_000);
    expect(await looking).toMatchObject({ ok: false, message: expect.stringMatching(/ did not end within 5 s: still waiting for the lock$/) });
    expect(await pipe.next()).toBeNull();
  });

  test("what a program leaves behind in its group goes with it", async () => {
    const pipe = new Pipe("leftover");
    const looking = lookAt(sh(`exec 3>${pipe.path}; trap '' TERM; sleep 1000 & printf ready >&3; exit 0`));
    expect(await pipe.next()).toBe("ready");
    expect(await looking).toMatchObject({ ok: true });
    expect(await pipe.next()).toBeNull();
  });

  test("whoever leaves the group and keeps the pipe does not keep the hub", async () => {
    // Short waits pass at once, the timeout does not.
    const clock: Clock = { ...systemClock, after: (ms, callback) => systemClock.after(ms <= 2_000 ? 0 : ms, callback) };
    const pipe = new Pipe("escaped");
    // It goes only after the other has left the group, which it hears from it.
    const looking = lookAt(sh(`exec 3>${pipe.path}; coproc setsid bash -c 'printf $$ >&3; echo left; exec sleep 1000 >&2'; read -r _ <&\${COPROC[0]}; exit 1`), clock);
    const pid = Number(await pipe.next());
    try {
      expect(await looking).toMatchObject({ ok: false, message: expect.stringMatching(/ended with exit code 1$/) });
    } finally {
      process.kill(pid, "SIGKILL");
    }
    expect(await pipe.next()).toBeNull();
  });
});

describe("ping", () => {
  const present = spawnable("ping");

  test.skipIf(!present)("the loopback answers, a name that is not there fails", async () => {
    expect(await lookAt({ ping: "127.0.0.1" })).toMatchObject({ ok: true });
    expect(await lookAt({ ping: "nowhere.invalid" })).toMatchObject({ ok: false, looked: true, message: expect.stringMatching(/^nowhere\.invalid: ping failed: .*nowhere\.invalid: /) });
  });

  test("without the program the hub cannot look, and says what to install", async () => {
    expect(await lookAt({ ping: "127.0.0.1" }, systemClock, directory)).toEqual({ ok: false, looked: false, tookMs: expect.any(Number), message: "cannot ping 127.0.0.1: the program ping is missing on the hub's machine; install iputils-ping there" });
  });

  // What iputils 20221126 said: as an unprivileged user without ping_group_range, and to an address of an empty network.
  const recorded = {
    forbidden: { code: 2, stdout: "", stderr: "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\nping: => missing cap_net_raw+p capability or setuid?\n" },
    unreachable: { code: 1, stdout: "PING 10.99.0.7 (10.99.0.7) 56(84) bytes of data.\nFrom 10.99.0.1 icmp_seq=1 Destination Host Unreachable\n\n--- 10.99.0.7 ping statistics ---\n1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms\n\n", stderr: "" },
    silent: { code: 1, stdout: "PING 10.99.0.7 (10.99.0.7) 56(84) bytes of data.\n\n--- 10.99.0.7 ping statistics ---\n1 packets transmitted, 0 received, 100% packet loss, time 0ms\n\n", stderr: "" },
    routeless: { code: 2, stdout: "", stderr: "ping: connect: Network is unreachable\n" },
  };
  const replay = (name: keyof typeof recorded): string => {
    const { code, stdout, stderr } = recorded[name];
    const bin = mkdtempSync(join(directory, `${name}-`));
    writeFileSync(join(bin, "ping"), `#!/bin/sh\nprintf %s '${stdout}'\nprintf %s '${stderr}' >&2\nexit ${code}\n`, { mode: 0o755 });
    return bin;
  };

  test.each([
    ["forbidden", false, /^cannot ping 10\.99\.0\.7: the hub may not send ICMP; allow it with sysctl net\.ipv4\.ping_group_range/],
    ["unreachable", true, /^10\.99\.0\.7: no answer to ping: From 10\.99\.0\.1 icmp_seq=1 Destination Host Unreachable$/],
    ["silent", true, /^10\.99\.0\.7: no answer to ping within 5 s$/],
    ["routeless", true, /^10\.99\.0\.7: ping failed: ping: connect: Network is unreachable$/],
  ] as const)("%s", async (name, looked, message) => {
    expect(await lookAt({ ping: "10.99.0.7" }, systemClock, replay(name))).toMatchObject({ ok: false, looked, message: expect.stringMatching(message) });
  });
});

function spawnable(program: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
