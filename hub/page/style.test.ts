import { expect, test } from "vitest";
import { assets } from "./assets.ts";

/** WCAG 2.2, 1.4.3: text needs 4.5:1 against what it stands on. Measured here, so that a prettier colour cannot undo it. */
const AA = 4.5;

const ON_GROUND = [
  ...["ink", "muted", "brand", "good", "busy", "warn", "bad", "off"].flatMap((text) => [[text, "surface"], [text, "paper"]]),
  ...["good", "busy", "warn", "bad", "off", "ink", "muted"].map((text) => [text, ["ink", "muted"].includes(text) ? "off-ground" : `${text}-ground`]),
  ...["good-ground", "busy-ground", "warn-ground", "bad-ground"].flatMap((ground) => [["ink", ground], ["muted", ground]]),
  ["ink", "sunk"], ["muted", "sunk"], ["brand", "sunk"], ["surface", "brand"],
] as const;

const blocks = assets.style.body.match(/:root \{[^}]*\}/g) ?? [];
const [light = "", dark = ""] = blocks;

test.each([["light", light], ["dark", dark]])("text is readable on its ground: %s", (_scheme, block) => {
  const colours = new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((found) => [found[1] ?? "", found[2] ?? ""]));
  const poor = ON_GROUND.map(([text, ground]) => ({ pair: `${text} on ${ground}`, ratio: contrast(colours.get(text ?? ""), colours.get(ground ?? "")) })).filter(({ ratio }) => !(ratio >= AA));
  expect(poor).toEqual([]);
});

/** WCAG 2.2, 1.4.11: graphics need 3:1 against what lies beside them. */
const AA_GRAPHICS = 3;
const PHASES = ["draining", "working", "rebooting", "checking", "soaking", "other"];

test.each([["light", light, 0], ["dark", dark, 1]] as const)("a phase's bar is seen on its track: %s", (_scheme, grounds, at) => {
  const colours = new Map([...`${grounds}${blocks.filter((block) => block.includes("--phase-"))[at] ?? ""}`.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((found) => [found[1] ?? "", found[2] ?? ""]));
  const poor = PHASES.flatMap((phase) => ["sunk", "surface"].map((ground) => ({ pair: `${phase} on ${ground}`, ratio: contrast(colours.get(`phase-${phase}`), colours.get(ground)) }))).filter(({ ratio }) => !(ratio >= AA_GRAPHICS));
  expect(poor).toEqual([]);
});

/** WCAG's definition of the contrast ratio of two sRGB colours. */
function contrast(a = "", b = ""): number {
  const [low = Number.NaN, high = Number.NaN] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function luminance(hex: string): number {
  const [red = Number.NaN, green = Number.NaN, blue = Number.NaN] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.040_45 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
