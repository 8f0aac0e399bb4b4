/** `kiln version`: what runs here, for bug reports. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { examples, globalOptions } from './command.ts';

/** Kiln's own version, from package.json; it lies two levels up both from src/cli and from an emitted dist/cli. */
export function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

export function register(command: Command): void {
  examples(command, [['kiln version --json', 'the same for machines']]);
  command.action(() => {
    const found = { kiln: version(), node: process.versions.node, platform: `${process.platform} ${process.arch}` };
    process.stdout.write(
      globalOptions(command).json
        ? `${JSON.stringify(found)}\n`
        : `kiln ${found.kiln} (node ${found.node}, ${found.platform})\n`,
    );
  });
}
