// The ways a run ends before its command has started: one error type, its exit status, and the help line. Nothing is printed here.

/** Exit statuses of `sallyport run` that are not the command's own. */
export const exitCodes = [
  { code: 2, name: 'usage', sentence: 'bad use: an option, a name or the policy is wrong' },
  { code: 64, name: 'guard', sentence: 'an entry guard inside the sandbox refused to start the command' },
  {
    code: 69,
    name: 'boundary',
    sentence: 'the boundary could not be built or did not prove itself; nothing was run',
  },
  { code: 124, name: 'timeout', sentence: 'the command ran longer than --timeout' },
] as const;

type ExitName = (typeof exitCodes)[number]['name'];

/** A run that will not start. `kind` gives the exit status, `help` says what to do. */
export class RunRefused extends Error {
  readonly kind: ExitName;
  readonly help: string;

  constructor(kind: ExitName, message: string, help: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'RunRefused';
    this.kind = kind;
    this.help = help;
  }

  get exitCode(): number {
    return exitCodeOf(this.kind);
  }
}

/** The exit status of `name`. */
export function exitCodeOf(name: ExitName): number {
  return exitCodes.find((row) => row.name === name)?.code ?? 69;
}
