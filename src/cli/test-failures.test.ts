import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../processes/process.ts';
import { failuresOf } from './test-failures.ts';

const TESTS = `import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
const long = Array.from({ length: 200 }, (_, n) => 'line ' + n).join('\\n');
describe('outer', () => {
  test('a # in its name', () => assert.equal(1, 2, 'why\\n\\n  it is'));
  test('good', () => {});
  test('slow', { timeout: 20 }, () => new Promise(resolve => setTimeout(resolve, 300)));
});
test('thrown', () => { throw new TypeError("it's bad"); });
test('long', () => assert.fail(long));
test('later', { todo: true }, () => {});
`;

test("what the runner's report says of tests that failed, and of no others", async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-failures-'));
  try {
    const file = join(directory, 'a.test.mjs');
    await writeFile(file, TESTS);
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const node = await run(process.execPath, ['--test', '--test-reporter=tap', file], { env, ok: [0, 1] });
    const [named, slow, thrown, long, ...others] = failuresOf(node.stdout);
    assert.deepEqual(others, []);
    assert.deepEqual([named!.name, named!.location], ['a # in its name', `${file}:5:3`]);
    assert.deepEqual(named!.lines.slice(0, 3), ['why', '', '  it is']);
    assert.deepEqual([slow!.name, slow!.lines], ['slow', ['test timed out after 20ms']]);
    assert.deepEqual(thrown!.lines, ["it's bad"]);
    assert.equal(long!.lines[0], 'line 0');
    assert.match(long!.lines[20]!, /^… \d+ lines …$/);
    assert.equal(long!.lines.at(-1), 'line 199');
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a report of nothing', () => assert.deepEqual(failuresOf(''), []));
