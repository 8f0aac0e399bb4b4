/** No space left: for the machine's disk, for the image, for the log and the database. State directories on small file systems of their own. */
import assert from 'node:assert/strict';
import { mkdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { endDatabase, kiln, leftovers, type Outcome, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { tracesOf } from './traces.ts';

const directory = await temporaryHome();
let guest: QuickGuest;

before(async () => {
  guest = await makeQuickGuest(directory.path);
});

after(() => directory.remove());

/** A state directory with little room. The source image is elsewhere. */
async function smallHome(name: string, mebibytes: number): Promise<{ path: string } & AsyncDisposable> {
  const path = join(directory.path, name);
  await mkdir(path, { mode: 0o711 });
  await run('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=711`, 'kiln-test', path]);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await endDatabase(path);
      await run('umount', ['--lazy', path]);
    },
  };
}

const environment = () => ({ KILN_CACHE: guest.cache });

function build(home: string, template: string) {
  return start(['--home', home, 'build', template, '--catalogue', guest.catalogue], environment());
}

async function lastRun(home: string) {
  const shown = await kiln(['--home', home, '--json', 'runs', 'show', 'latest'], environment());
  assert.equal(shown.exitCode, 0, shown.stderr);
  return JSON.parse(shown.stdout) as {
    id: string;
    state: string;
    error: { code: string; message: string };
    phases: { kind: string; state: string }[];
  };
}

/** The build failed for lack of space in a phase, said so, and left nothing. */
async function assertFull(home: string, { exitCode, stderr }: Outcome, phase: string): Promise<void> {
  assert.equal(exitCode, 5, stderr);
  assert.match(stderr, /^error: No space left/m);
  const { id, state, error, phases } = await lastRun(home);
  assert.deepEqual([state, error.code], ['Failed', 'DiskFull']);
  assert.equal(phases.find(one => one.state === 'Failed')?.kind, phase);
  assert.deepEqual(await tracesOf(home, id), []);
  assert.deepEqual(mountless(await leftovers(home)), []);
}

/** A build that has not ended so long after its guest began to fill the disk never will. It waits half a minute for a database without room. */
const HUNG = 150_000;

const mountless = (left: readonly string[]) => left.filter(line => !line.startsWith('mount kiln-test '));

const skip = process.getuid?.() === 0 ? false : 'only root may mount a small file system';

describe('no space left', { concurrency: 2, skip }, () => {
  test("for what a step writes on the machine's disk", async () => {
    await using home = await smallHome('disk', 400);
    const steps = [['yes 0123456789 | head -c 700000000 > big', 'sync']];
    const outcome = await build(home.path, await writeTemplate(directory.path, 'disk', { steps })).ended;
    await assertFull(home.path, outcome, 'customize');
  });

  test('for the captured image', async () => {
    await using home = await smallHome('image', 400);
    const outcome = await build(home.path, await writeTemplate(directory.path, 'image')).ended;
    await assertFull(home.path, outcome, 'capture');
  });

  test('for the log and the database: the build ends, and the truth is told when there is space again', async () => {
    await using home = await smallHome('rows', 500);
    const steps = [['sleep 5', 'while true; do echo 0123456789; done']];
    const building = build(home.path, await writeTemplate(directory.path, 'rows', { steps }));
    const [, id = ''] = await building.until(/^run ([0-9a-f-]{36})$/m);
    await building.until(/^Step 1\/1 /m);
    const ballast = join(home.path, 'ballast');
    await leave(16, ballast, home.path);
    const hung = setTimeout(() => building.child.kill('SIGKILL'), HUNG);
    const { exitCode, stderr } = await building.ended;
    clearTimeout(hung);
    assert.equal(exitCode, 5, stderr);
    assert.match(stderr, /^error: No space left/m);
    assert.deepEqual(await tracesOf(home.path, id, [], 'files only'), []);
    await rm(ballast);
    const { state, error } = await lastRun(home.path);
    assert.equal(state, 'Failed');
    assert.match(error.code, /^(DiskFull|WorkerLost)$/);
    assert.deepEqual(await tracesOf(home.path, id), []);
    assert.deepEqual(mountless(await leftovers(home.path)), []);
  });
});

/**
 * Takes all the space but so much. What is left the guest fills, whose log may have four times as much: where this took everything, nobody knew what the
 * others had got before it.
 */
async function leave(mebibytes: number, path: string, fileSystem: string): Promise<void> {
  const { bavail, bsize } = await statfs(fileSystem);
  await run('fallocate', ['-l', String(bavail * bsize - mebibytes * 1024 * 1024), path]);
}
