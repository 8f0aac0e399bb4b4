/** kill -9 of builds in the container machine: mounts, loop devices, daemons and namespaces go with Kiln, and the next start clears the rest. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDirectory, kiln, leftovers, start, temporaryHome } from '../kiln.ts';
import { writeTemplate } from './templates.ts';
import { slotNumbers, tracesOf } from './traces.ts';

const root = process.getuid?.() === 0;
const env = { KILN_CACHE: cacheDirectory() };
const SOURCE = { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' };

let home: Awaited<ReturnType<typeof temporaryHome>>;
let path = '';

before(async () => {
  home = await temporaryHome();
  // Dirty pages in the file system, and a process that has some of it open, when the kill comes.
  const steps = [
    ['sudo dd if=/dev/urandom of=/var/tmp/dirty bs=1M count=50 status=none', 'echo the disk is dirty', 'sleep 600'],
  ];
  path = await writeTemplate(home.path, 'container', { source: SOURCE, steps });
});

after(async () => home?.remove());

/** Gone within ten seconds; what is still there then. */
async function soonGone(find: () => Promise<readonly string[]>): Promise<readonly string[]> {
  for (let tries = 0; ; tries++) {
    const found = await find();
    if (found.length === 0 || tries === 100) return found;
    await sleep(100);
  }
}

describe('a container build that is killed', { skip: !root && 'mounting disks takes root', concurrency: 1 }, () => {
  for (const [moment, pattern] of [
    ['while the disk is being mounted', /^boot: container .*\.\.\.$/m],
    ['while a step writes to the disk', /the disk is dirty/],
  ] as const)
    test(moment, async () => {
      const running = start(['--home', home.path, '-v', 'build', path, '--machine', 'container'], env);
      const [, runId = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
      await running.until(pattern);
      const slots = await slotNumbers(home.path, runId);
      running.child.kill('SIGKILL');
      assert.equal((await running.ended).signal, 'SIGKILL');
      const kernel = async () =>
        (await tracesOf(home.path, runId, [], 'files only')).filter(one => /^(process|mount|loop)/.test(one));
      assert.deepEqual(await soonGone(kernel), []);
      const shown = await kiln(['--home', home.path, '--json', 'runs', 'show', runId], env);
      assert.equal(JSON.parse(shown.stdout).state, 'Failed');
      assert.deepEqual(await tracesOf(home.path, runId, slots), []);
    });

  test('Ctrl-C ends it as a cancellation, and nothing is left', async () => {
    const running = start(['--home', home.path, '-v', 'build', path, '--machine', 'container'], env);
    await running.until(/the disk is dirty/);
    running.child.kill('SIGINT');
    const { exitCode } = await running.ended;
    assert.equal(exitCode, 130);
    assert.deepEqual(await leftovers(home.path), []);
  });

  test('two at once on one state directory', async () => {
    const one = await writeTemplate(home.path, 'one', { source: SOURCE });
    const two = join(home.path, 'two.json');
    await writeFile(
      two,
      JSON.stringify({ ...JSON.parse(await (await import('node:fs/promises')).readFile(one, 'utf8')), name: 'two' }),
    );
    const built = await Promise.all(
      [one, two].map(file => kiln(['--home', home.path, 'build', file, '--machine', 'container'], env)),
    );
    for (const { exitCode, stderr } of built) assert.equal(exitCode, 0, stderr);
    assert.deepEqual(await leftovers(home.path), []);
  });
});
