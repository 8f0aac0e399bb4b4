import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GROUPS, testFiles, totals } from './test-groups.ts';

const group = (name: string) => GROUPS.find(one => one.name === name)!;

test('unit tests are found beside the code, and no test that boots a guest among them', () => {
  const files = testFiles(group('unit'));
  assert.ok(files.includes('src/cli/test-groups.test.ts'));
  assert.ok(files.every(path => !/^test\/(boot|chaos|clients)\//.test(path)));
  assert.deepEqual(testFiles(group('unit'), 'cli/test-gr'), ['src/cli/test-groups.test.ts']);
});

test("the runner's totals are read from the end of its report, not from what tests print", () => {
  const report =
    '# pass 99\nok 1 - a\n1..1\n# tests 1\n# suites 0\n# pass 1\n# fail 0\n# cancelled 0\n# skipped 0\n# todo 0\n# duration_ms 5\n';
  assert.deepEqual(totals(report).slice(0, 3), ['# tests 1', '# suites 0', '# pass 1']);
  assert.deepEqual(totals(''), []);
});
