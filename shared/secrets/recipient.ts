/** `age1` and 32 bytes with a checksum, in bech32. */
const RECIPIENT_LENGTH = 62;
const CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as const;

/**
 * What is wrong with a recipient (`age1…`, the public half of an age key), and what to write instead; undefined when it is a
 * good one. Here and not in age.ts, so that reading a repository does not load the cryptography.
 */
export function recipientProblem(recipient: string): string | undefined {
  if (/^AGE-SECRET-KEY-/i.test(recipient)) return "this is a secret key: it must never be in a repository. Make a new one with `evenkeel secret key`, and write its public half (age1…) here";
  if (/^(ssh|ecdsa|sk)-/.test(recipient)) return "this is an SSH key, to which only the age command can encrypt: make an age key with `evenkeel secret key`, and write its public half (age1…) here";
  if (/^age1[a-z0-9]+1/.test(recipient) && recipient.length !== RECIPIENT_LENGTH) return "keys of plugins and post-quantum keys are not read by every age: make an ordinary one with `evenkeel secret key`, and write its public half (age1…) here";
  if (recipient.length === RECIPIENT_LENGTH && recipient.startsWith("age1") && checksumHolds("age", recipient.slice("age1".length))) return undefined;
  return `a recipient is age1 and 58 letters and digits; ${JSON.stringify(recipient.slice(0, 70))} is none, or it was cut short or mistyped: copy it again`;
}

/** BIP 173, "Checksum". */
function checksumHolds(prefix: string, data: string): boolean {
  const codes = Array.from(prefix, (letter) => letter.charCodeAt(0));
  const values = [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31), ...Array.from(data, (letter) => CHARSET.indexOf(letter))];
  if (values.includes(-1)) return false;
  let check = 1;
  for (const value of values) {
    const top = check >>> 25;
    check = ((check & 0x1ffffff) << 5) ^ value;
    for (const [bit, generator] of GENERATOR.entries()) if (((top >> bit) & 1) === 1) check ^= generator;
  }
  return check === 1;
}
