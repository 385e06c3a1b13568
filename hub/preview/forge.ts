import { FORGE_URLS, type Statuses } from "../../shared/config/statuses.ts";

/**
 * How GitHub, Gitea, Forgejo and GitLab are told of a commit's status. Sources: docs.github.com/rest/commits/statuses,
 * Gitea's and Forgejo's swagger (`CreateStatusOption`), docs.gitlab.com/api/commits (set the pipeline status of a commit).
 */

export interface CommitStatus {
  readonly commit: string;
  readonly state: "pending" | "success" | "failure";
  /** Tells our statuses apart from each other and from everybody else's: `evenkeel/plan`. */
  readonly context: string;
  /** For people; longer ones are cut. */
  readonly description: string;
  readonly targetUrl: string;
}

export interface ForgeRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** GitHub refuses longer ones; GitLab takes 255. */
const DESCRIPTION_CHARS_MAX = 140;

export function statusRequest(forge: Statuses, token: string, status: CommitStatus): ForgeRequest {
  const description = status.description.length <= DESCRIPTION_CHARS_MAX ? status.description : `${status.description.slice(0, DESCRIPTION_CHARS_MAX - 1)}…`;
  const site = (forge.url ?? FORGE_URLS[forge.provider] ?? "").replace(/\/+$/, "");
  const common = { "content-type": "application/json", "user-agent": "evenkeel-hub" };
  const body = { state: status.state, target_url: status.targetUrl, description, context: status.context };
  switch (forge.provider) {
    case "github":
      return {
        url: `${githubApi(site)}/repos/${forge.repository}/statuses/${status.commit}`,
        headers: { ...common, accept: "application/vnd.github+json", "x-github-api-version": "2022-11-28", authorization: `Bearer ${token}` },
        body: JSON.stringify(body),
      };
    case "gitea":
    case "forgejo":
      return { url: `${site}/api/v1/repos/${forge.repository}/statuses/${status.commit}`, headers: { ...common, accept: "application/json", authorization: `token ${token}` }, body: JSON.stringify(body) };
    case "gitlab": {
      const query = new URLSearchParams({ state: status.state === "failure" ? "failed" : status.state, name: status.context, target_url: status.targetUrl, description });
      return { url: `${site}/api/v4/projects/${encodeURIComponent(forge.repository)}/statuses/${status.commit}?${query.toString()}`, headers: { accept: "application/json", "user-agent": "evenkeel-hub", "private-token": token }, body: "" };
    }
  }
}

/** A GitHub of one's own has its API below /api/v3 (docs.github.com/enterprise-server, "Getting started with the REST API"). */
function githubApi(site: string): string {
  const { hostname } = new URL(site);
  if (hostname === "api.github.com") return site;
  if (hostname === "github.com") return "https://api.github.com";
  return site.endsWith("/api/v3") ? site : `${site}/api/v3`;
}

/** Whether it has been taken, may be taken later, or never will. */
export type ForgeVerdict = { readonly end: "done" } | { readonly end: "again" | "never"; readonly why: string };

export function judgeAnswer(forge: Statuses, answer: { readonly status: number; readonly body: string }): ForgeVerdict {
  const { status, body } = answer;
  if (status >= 200 && status < 300) return { end: "done" };
  // GitLab's statuses are a state machine that refuses pending after pending: what was to be said stands there already.
  if (forge.provider === "gitlab" && status === 400 && body.includes("Cannot transition status")) return { end: "done" };
  if (status >= 300 && status < 400) return { end: "never", why: "it answers that it has moved: write its new address under url" };
  if (status === 401) return { end: "never", why: `it does not know the token in ${forge.tokenFile}: is it spent? Put a new one into the file` };
  if (status === 403) return { end: "never", why: `the token in ${forge.tokenFile} may not write commit statuses of ${forge.repository}` };
  if (status === 404 || status === 422) return { end: "again", why: `it knows no such commit in ${forge.repository} (yet), or not the repository: was the commit pushed there as well?` };
  if (status === 429 || status >= 500) return { end: "again", why: `it is busy or in trouble (${status})` };
  return { end: "never", why: `it refuses it (${status})` };
}
