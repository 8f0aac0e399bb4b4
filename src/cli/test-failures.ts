/** The tests that failed, out of the runner's TAP report: told again at the end, so that nobody has to look for them in an hour of output. */

export interface TestFailure {
  readonly name: string;
  /** `/path/of/file.test.ts:12:3`; empty when the runner does not know. */
  readonly location: string;
  /** Why, without its stack; long ones without their middle. */
  readonly lines: readonly string[];
}

/** Lines of an error that are told: where it begins, and where it ends. */
const FIRST = 20;
const LAST = 30;

/** Suites fail only because of what is in them, and are left out. */
export function failuresOf(report: string): TestFailure[] {
  const failures: TestFailure[] = [];
  for (const [, indent = '', name = '', block = ''] of report.matchAll(
    /^( *)not ok \d+ - (.*)\n\1 {2}---\n([\s\S]*?)^\1 {2}\.\.\.$/gm,
  )) {
    const lines = block.split('\n').map(line => line.slice(indent.length + 2));
    if (fieldOf(lines, 'failureType')[0] === 'subtestsFailed') continue;
    failures.push({
      name: name.replace(/\\([#\\])/g, '$1'),
      location: fieldOf(lines, 'location')[0] ?? '',
      lines: shortened(fieldOf(lines, 'error')),
    });
  }
  return failures;
}

/** @param lines of a test's YAML, without their indentation: `key: 'value'`, or `key: |-` and the value's own lines, indented by two */
function fieldOf(lines: readonly string[], key: string): string[] {
  const at = lines.findIndex(line => line.startsWith(`${key}: `));
  if (at === -1) return [];
  const value = lines[at]!.slice(key.length + 2);
  if (value !== '|-') return [value.replace(/^(['"])(.*)\1$/, '$2')];
  const after = lines.slice(at + 1);
  const end = after.findIndex(line => line !== '' && !line.startsWith('  '));
  return (end === -1 ? after : after.slice(0, end))
    .map(line => line.slice(2))
    .join('\n')
    .trimEnd()
    .split('\n');
}

function shortened(lines: readonly string[]): readonly string[] {
  const left = lines.length - FIRST - LAST;
  if (left <= 1) return lines;
  return [...lines.slice(0, FIRST), `… ${left} lines …`, ...lines.slice(-LAST)];
}
