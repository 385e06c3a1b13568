import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContext } from "node:tls";

/** Where Debian and Ubuntu keep what the machine trusts, the owner's own authorities among it (update-ca-certificates(8)). */
export const systemAuthoritiesPath = "/etc/ssl/certs/ca-certificates.crt";

/**
 * What this machine trusts, so that a check believes what `curl` would believe there; undefined if the file is not there.
 * Takes some 50 ms for the usual 140 authorities, so whoever calls keeps it for a while.
 */
export function systemTrust(path: string): SecureContext | undefined {
  let ca: string;
  try {
    ca = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  return createSecureContext({ ca });
}
