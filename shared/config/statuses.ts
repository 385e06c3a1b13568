import * as z from "zod";

/** Where the hub says how a commit stands: GitHub, Gitea, Forgejo or GitLab. */

export const FORGES = ["github", "gitea", "forgejo", "gitlab"] as const;
export type ForgeProvider = (typeof FORGES)[number];

/** Where those are that are only in one place, or usually. */
export const FORGE_URLS: Readonly<Partial<Record<ForgeProvider, string>>> = { github: "https://api.github.com", gitlab: "https://gitlab.com" };

/** A token in clear text may pass a wire only within the house: loopback and private addresses (RFC 1918, RFC 4193). */
function isFitForToken(text: string): boolean {
  const url = new URL(text);
  if (url.protocol === "https:") return true;
  return /^(localhost|127(\.\d+){3}|10(\.\d+){3}|192\.168(\.\d+){2}|172\.(1[6-9]|2\d|3[01])(\.\d+){2}|\[::1\]|\[f[cd][0-9a-f:]+\])$/.test(url.hostname);
}

export const Statuses = z
  .strictObject({
    provider: z.enum(FORGES).describe("Whose API it is"),
    url: z
      .url({ protocol: /^https?$/ })
      .max(512)
      .refine((url) => isFitForToken(url), "the token would pass in clear text: write https://, or the private address of a machine in the house")
      .refine((url) => new URL(url).search === "" && new URL(url).hash === "" && new URL(url).username === "" && new URL(url).password === "", "only the address of the site, such as https://git.example.org")
      .optional()
      .describe("The address of the site, such as https://git.example.org; not needed for github.com and gitlab.com"),
    repository: z
      .string()
      .max(512)
      .regex(/^[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)+$/, "the repository as it is called there, such as ada/cluster")
      .refine((path) => !path.split("/").some((part) => /^\.+$/.test(part)), "the repository as it is called there, such as ada/cluster")
      .describe("The repository there, such as ada/cluster"),
    tokenFile: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, "the name of a file, such as github-token; it lies in the directory tokens/ of the hub's data directory")
      .describe("The name of a file with the token, in the directory tokens/ of the hub's data directory. The token needs to be allowed to write commit statuses and nothing else"),
  })
  .superRefine(({ provider, url }, context) => {
    if (url === undefined && FORGE_URLS[provider] === undefined) context.addIssue({ code: "custom", path: [], message: `url is missing: ${provider} runs in many places, so write where yours is, such as https://git.example.org` });
  });
export type Statuses = z.output<typeof Statuses>;
