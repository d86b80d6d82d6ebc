// Runs one short tool (ip, nft, mount) to its end with an argument list. Never a shell line, never a long-lived process.
import { execFile } from 'node:child_process';

const toolTimeoutMs = 10_000;

/** A tool that ended badly; `detail` is what it said on stderr. `code` is `ENOENT` when it is not on PATH. */
export class ToolError extends Error {
  readonly code: string;
  readonly detail: string;
  readonly help = 'nothing was run; `sallyport doctor` says what this machine lacks';

  constructor(program: string, args: readonly string[], code: string, detail: string) {
    super(`\`${program} ${args.join(' ')}\` failed: ${detail.trim() || code}`);
    this.name = 'ToolError';
    this.code = code;
    this.detail = detail;
  }
}

/** Standard output of `tool args`. Rejects with ToolError on a status other than 0 or after 10 s. */
export async function tool(name: string, args: readonly string[]): Promise<string> {
  return await new Promise((resolve, reject) => {
    execFile(name, args, { timeout: toolTimeoutMs, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new ToolError(name, args, String(error.code ?? error.signal ?? 'failed'), stderr));
    });
  });
}
