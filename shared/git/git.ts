/**
 * Runs `git` in one repository; the caller of this library decides where and how. Exit codes are answers.
 * `args` never pass through a shell.
 */
export type Git = (
  args: readonly string[],
  options?: { readonly input?: string | Uint8Array; readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number },
) => Promise<GitOutput>;

export interface GitOutput {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
}
