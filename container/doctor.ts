// `sallyport doctor`: says for every need of a run whether this machine has it, and the command that mends it. Mends nothing itself.
import { styleText } from 'node:util';
import { Command } from 'commander';
import { examine, type Finding, type Patient } from './doctor-needs.ts';
import { tool } from './exec.ts';

/** What the command works with; tests give their own patient and ears. */
export interface DoctorIo {
  readonly patient: Patient;
  out(text: string): void;
  exit(code: number): void;
}

/** The command `doctor`. Ends with 0 when nothing fails (a warning is no failure), else 1; 2 for bad use. */
export function doctorCommand(env: NodeJS.ProcessEnv, io: DoctorIo = realIo(env)): Command {
  return new Command('doctor')
    .description('what a run needs of this machine: ok, warn or fail, each with the command that mends it')
    .option('--json', 'print one JSON object instead of lines')
    .addHelpText('after', examples)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
    .action(async ({ json }: { readonly json?: true }) => {
      const findings = await examine(io.patient);
      const failed = findings.filter(({ level }) => level === 'fail').length;
      io.out(
        json === true
          ? JSON.stringify({ ok: failed === 0, needs: findings }, null, 2)
          : report(findings, failed),
      );
      io.exit(failed === 0 ? 0 : 1);
    });
}

const examples = `
Examples:
  $ sudo npx sallyport doctor
  $ npx sallyport doctor --json | jq '.needs[] | select(.level != "ok")'

Exit status: 0 nothing fails, 1 something does, 2 bad use.
\`policy\` and \`sallyport proxy\` need only node; everything else here is for \`sallyport run\`.`;

function realIo(env: NodeJS.ProcessEnv): DoctorIo {
  return {
    patient: {
      path: env['PATH'] ?? '',
      node: process.versions.node,
      uid: process.getuid?.() ?? -1,
      state: env['SALLYPORT_STATE_DIR'] ?? '/run/sallyport',
      proc: '/proc',
      run: tool,
    },
    out: (text) => void process.stdout.write(`${text}\n`),
    exit: (code) => {
      process.exitCode = code;
    },
  };
}

function report(findings: readonly Finding[], failed: number): string {
  const end =
    failed === 0
      ? 'everything that `sallyport run` needs is here'
      : `${failed} of ${findings.length} needs fail: \`sallyport run\` would refuse to start`;
  return [...findings.flatMap(lines), '', end].join('\n');
}

const colours = { ok: 'green', warn: 'yellow', fail: 'red' } as const;

function lines({ need, level, detail, fix }: Finding): string[] {
  // styleText keeps quiet when standard output is no terminal or NO_COLOR is set.
  const mark = styleText(colours[level], level.padEnd(4), { stream: process.stdout });
  const first = `${mark}  ${need.padEnd(12)}  ${detail}`;
  return fix === null ? [first] : [first, `${' '.repeat(20)}fix: ${fix}`];
}
