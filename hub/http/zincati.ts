import { createHmac } from "node:crypto";

/** Zincati's id for its kind of machine: `systemd-id128 machine-id --app-specific=…` answers the same. */
const applicationId = Buffer.from("de35106b6ec24688b63afddaa156679b", "hex");

/**
 * The id by which Zincati, the update agent of Fedora CoreOS, calls itself in FleetLock requests: 32 lower-case hex
 * digits, made from the machine's id so that that one stays private (sd_id128_get_machine_app_specific(3)).
 *
 * @param machineId the content of /etc/machine-id: 32 hex digits, with or without hyphens
 * @returns null when that is no machine's id
 */
export function zincatiId(machineId: string): string | null {
  const digits = machineId.trim().replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(digits)) return null;
  const id = createHmac("sha256", Buffer.from(digits, "hex")).update(applicationId).digest().subarray(0, 16);
  // Marked as a random UUID (RFC 9562, version 4).
  id.writeUInt8((id.readUInt8(6) & 0x0f) | 0x40, 6);
  id.writeUInt8((id.readUInt8(8) & 0x3f) | 0x80, 8);
  return id.toString("hex");
}
