import type { Output } from "../../shared/kinds/kind.ts";
import { updateLimits } from "../../shared/protocol/updates.ts";
import type { UpdateResult } from "../../shared/protocol/updates.ts";
import { tailOf } from "../host/apt-resolve.ts";

export type UpdateFailure = NonNullable<UpdateResult["failure"]>;

const MESSAGE_MAX_CHARS = 2_000;

export function fail(code: UpdateFailure["code"], message: string): UpdateFailure {
  return { code, message: message.slice(0, MESSAGE_MAX_CHARS), output: "" };
}

export function failOutput(code: UpdateFailure["code"], message: string, output: Output): UpdateFailure {
  return { ...fail(code, message), output: tailOf(output).slice(-updateLimits.outputCharsMax) };
}
