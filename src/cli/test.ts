/** `kiln test`: type check, lint, and the tests, in a checkout; one summary at the end and a faithful exit code. */
import type { Command } from 'commander';
import { KilnError } from '../arm/errors.ts';
import { examples, globalOptions } from './command.ts';
import { ensureRequirements } from './requirements.ts';

export function register(command: Command): void {
  command
    .argument('[filter]', 'only test files whose path contains this')
    .option('--checks', 'the type check and the linter')
    .option('--unit', 'tests beside the code: seconds, no guests')
    .option('--boot', 'real builds in real guests')
    .option('--chaos', 'builds that are killed, starved and cut off')
    .option('--clients', 'real clients');
  examples(command, [
    ['kiln test', 'everything'],
    ['kiln test --unit', 'only the tests beside the code'],
    ['kiln test src/disks', 'the tests of one folder'],
  ]);
  command.action(async (filter: string | undefined) => {
    const { GROUPS, runTests, testFiles } = await import('./test-groups.ts');
    const asked = command.opts<Record<string, boolean | undefined>>();
    const named = GROUPS.filter(group => asked[group.name]);
    // A filter alone means tests, not checks: who names a file wants its answer.
    const groups = named.length > 0 ? named : GROUPS.filter(group => group.name !== 'checks' || filter === undefined);
    const selected = groups.map(group => ({ group, files: testFiles(group, filter) }));
    if (filter !== undefined && selected.every(({ files }) => files.length === 0))
      throw new KilnError('UsageError', `No test file's path contains "${filter}".`, {
        hint: 'Paths start with src/ or test/, such as src/disks or test/boot.',
      });
    await ensureRequirements('test', { yes: globalOptions(command).yes });
    if (!(await runTests(selected))) process.exitCode = 1;
  });
}
