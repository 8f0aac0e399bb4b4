/** `kiln doctor`: what builds need on this machine, what is missing, and what to type. */
import type { Command } from 'commander';
import { EXIT_CODES } from '../arm/errors.ts';
import { examples, globalOptions } from './command.ts';
import { openDisplay } from './display.ts';
import { type Finding, inspectHost } from './host.ts';
import { ensureRequirements, installLine, missingFor } from './requirements.ts';
import { type Colour, paint, table, terminalWidth } from './terminal.ts';

export function register(command: Command): void {
  examples(command, [
    ['kiln doctor', 'look, change nothing but the state directory'],
    ['kiln doctor --yes', 'install what is missing first'],
    ['kiln doctor --json', 'the same for machines; exit code 0 when builds can run, 5 otherwise'],
  ]);
  command.action(async () => {
    const options = globalOptions(command);
    if (options.yes) await ensureRequirements('build', { yes: true });
    const display = options.json || !process.stderr.isTTY ? undefined : openDisplay();
    display?.step('Looking at this machine');
    const findings = await inspectHost(options.home).finally(() => display?.done());
    const ready = findings.every(finding => finding.state !== 'missing');
    const packages = [...new Set(missingFor('build').map(requirement => requirement.package))];
    if (options.json) process.stdout.write(`${JSON.stringify({ ready, packages, findings })}\n`);
    else process.stdout.write(render(findings, ready, packages));
    if (!ready) process.exitCode = EXIT_CODES.host;
  });
}

const MARKS: Readonly<Record<Finding['state'], readonly [Colour, string]>> = {
  ok: ['green', 'ok'],
  note: ['yellow', 'note'],
  missing: ['red', 'missing'],
};

function render(findings: readonly Finding[], ready: boolean, packages: readonly string[]): string {
  const rows = findings.map(({ state, name, found }) => [paint(...MARKS[state]), name, found]);
  const hints = findings.filter(finding => finding.hint !== undefined && finding.state !== 'ok');
  let text = table(rows);
  if (hints.length > 0) text += '\n';
  for (const { name, hint } of hints) text += wrapped(`${name}: ${hint}`);
  text += '\n';
  if (packages.length > 0)
    text += `To install what is missing, type:  ./kiln doctor --yes\nor:  ${installLine(packages)}\n`;
  return `${text}${ready ? paint('green', 'Builds can run here.') : paint('red', 'Builds cannot run here yet.')}\n`;
}

/** A paragraph in the width of the terminal, its further lines indented. */
function wrapped(text: string): string {
  const width = Math.max(40, Math.min(120, terminalWidth()) - 2);
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return `${lines.join('\n  ')}\n`;
}
