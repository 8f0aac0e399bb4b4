/** What every command has: the global options, wherever they stand before `--`, and examples in its help. */
import type { Command } from 'commander';

export interface GlobalOptions {
  /** The state directory as it was asked for: `--home`, or KILN_HOME. */
  readonly home?: string;
  readonly json: boolean;
  readonly verbose: boolean;
  /** Nobody has to be asked. */
  readonly yes: boolean;
}

export function globalOptions(command: Command): GlobalOptions {
  const { home, json, verbose, yes } = command.optsWithGlobals<Partial<GlobalOptions>>();
  return { ...(home && { home }), json: json === true, verbose: verbose === true, yes: yes === true };
}

/** Adds examples to the help of a command: `[what is typed, what it does]`. */
export function examples(command: Command, lines: readonly (readonly [string, string])[]): void {
  const width = Math.max(...lines.map(([typed]) => typed.length));
  const text = lines.map(([typed, what]) => `  ${typed.padEnd(width)}  # ${what}\n`).join('');
  command.addHelpText('after', `\nExamples:\n${text}`);
}
