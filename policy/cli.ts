// The command `policy`: asks and shows, changes nothing. Exit status: 0 allowed or fine, 1 denied or a failed test,
// 2 bad use or a bad policy. What it prints is made in report.ts.

import { Command, CommanderError, Option } from 'commander';
import { fileURLToPath } from 'node:url';
import manifest from '../package.json' with { type: 'json' };
import type { Policy } from './compile.ts';
import { loadPolicy } from './load.ts';
import { askableModes, type AskableMode } from './policy-tests.ts';
import { checkReport, listReport, showReport, testReport, validateReport, type Report } from './report.ts';

interface Options {
  readonly policy: string;
  readonly json?: boolean;
}

interface CheckOptions extends Options {
  readonly mode: AskableMode;
}

const shippedPolicy = fileURLToPath(new URL('default.json', import.meta.url));
const badUse = 2;

function policyCommand(): Command {
  const policy = new Command('policy').description('Ask what a policy allows, and why. Changes nothing.');
  policy
    .version(manifest.version)
    .exitOverride()
    .showHelpAfterError('help: `policy --help` lists the commands, `policy check --help` its options');
  policy
    .addCommand(
      command('check', 'decide as the proxy does: name, port and protocol', [
        'github.com',
        'gist.github.com:22 --json',
        '--mode http mirror.example',
      ])
        .argument('<target...>', 'host or host:port; without a port 443, with --mode http 80')
        .addOption(modeOption())
        .action((targets: string[], options: CheckOptions) =>
          report(options, (p) => checkReport(p, targets, options.mode)),
        ),
    )
    .addCommand(
      command('validate', 'say whether a file is a policy that can be enforced', [
        'my-policy.json',
        '--policy my-policy.nix',
      ])
        .argument('[file]', 'the policy; overrides --policy')
        .action((file: string | undefined, options: Options) => {
          const path = file ?? options.policy;
          return report({ ...options, policy: path }, (p) => validateReport(p, path));
        }),
    )
    .addCommand(
      command('show', 'print the effective policy in canonical form, with its digest', ['', '--json']).action(
        (options: Options) => report(options, showReport),
      ),
    )
    .addCommand(
      command('test', "run the policy's own tests", ['', '--policy my-policy.json']).action(
        (options: Options) => report(options, testReport),
      ),
    )
    .addCommand(
      command('list', 'list rules and services, one a line', ['', '--json']).action((options: Options) =>
        report(options, listReport),
      ),
    );
  return policy.addHelpText(
    'after',
    exitText + examplesText('', ['check github.com', 'list', 'check --help']),
  );
}

const exitText = '\nExit status: 0 allowed or fine, 1 denied or a failed test, 2 bad use or a bad policy.\n';

function command(name: string, summary: string, examples: readonly string[]): Command {
  return new Command(name)
    .description(summary)
    .addOption(policyOption())
    .option('--json', 'print JSON')
    .exitOverride()
    .showHelpAfterError(`help: \`policy ${name} --help\` shows its use`)
    .addHelpText('after', exitText + examplesText(name, examples));
}

function policyOption(): Option {
  const option = new Option('--policy <file>', 'policy to ask (.json, or .nix if nix is there)');
  return option.default(shippedPolicy, 'the shipped policy/default.json');
}

function modeOption(): Option {
  const option = new Option('--mode <mode>', 'how the client asks');
  return option.choices([...askableModes]).default('connect');
}

function examplesText(name: string, examples: readonly string[]): string {
  const lines = examples.map((example) => `  ${['policy', name, example].filter(Boolean).join(' ')}`);
  return `\nExamples:\n${lines.join('\n')}\n`;
}

async function report({ policy, json }: Options, make: (policy: Policy) => Report): Promise<void> {
  const { text, json: value, status } = make(await loadPolicy(policy));
  process.stdout.write(json === true ? `${JSON.stringify(value, undefined, 2)}\n` : text);
  process.exitCode = status;
}

async function main(): Promise<void> {
  // A reader such as `head` may close early.
  process.stdout.on('error', () => process.exit());
  try {
    await policyCommand().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : badUse;
    else {
      process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
      process.exitCode = badUse;
    }
  }
}

await main();
