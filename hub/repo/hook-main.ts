import { connect } from "node:net";

/**
 * The pre-receive hook: it only carries what git says to the hub's process, which has everything loaded, and the hub's
 * words to the pusher's terminal. Exit code 0 lets the push in.
 */

const inputMaxBytes = 64 * 1024;
const socketPath = process.env["EVENKEEL_HOOK_SOCKET"] ?? "";
const pushId = process.env["EVENKEEL_PUSH_ID"] ?? "";

function fail(message: string): never {
  process.stderr.write(`evenkeel: refused: ${message}\n`);
  process.exit(1);
}

if (socketPath === "" || pushId === "") fail("this repository takes pushes through the hub only: push to https://HUB:7443/cluster.git");

const chunks: Buffer[] = [];
let sizeBytes = 0;
for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
  sizeBytes += chunk.length;
  if (sizeBytes > inputMaxBytes) fail("this push changes too many branches at once");
  chunks.push(chunk);
}
const quarantine: Record<string, string> = {};
for (const name of ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"]) {
  const value = process.env[name];
  if (value !== undefined) quarantine[name] = value;
}

const socket = connect(socketPath);
socket.on("error", (error) => fail(`the hub does not answer (${error.message}): is it being restarted? Push again.`));
socket.end(`${JSON.stringify({ pushId, updates: Buffer.concat(chunks).toString("utf8"), quarantine })}\n`);
let answer = "";
for await (const chunk of socket) answer += String(chunk);
let verdict: { ok: boolean; text: string };
try {
  verdict = JSON.parse(answer) as { ok: boolean; text: string };
} catch {
  fail("the hub broke off while it checked the push: push again, and look at the hub's log if it stays so");
}
process.stderr.write(verdict.text, () => process.exit(verdict.ok ? 0 : 1));
