/** The order of what is asked of QEMU, and what is left when it refuses; the real one is in test/boot/resume.test.ts. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freeze, thaw } from './checkpoint.ts';
import { Qmp } from './qmp.ts';

type Answers = Readonly<Record<string, (args: Record<string, unknown>) => unknown>>;

/** A session with something that answers as it is told to; everything else with `{}`. */
function session(answers: Answers): { qmp: Qmp; asked: string[] } {
  const asked: string[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const { execute, arguments: args = {}, id } = JSON.parse(String(chunk));
      asked.push(execute);
      let answer: object;
      try {
        answer = { return: answers[execute]?.(args) ?? {} };
      } catch (error) {
        answer = { error: { class: 'GenericError', desc: (error as Error).message } };
      }
      this.push(`${JSON.stringify({ ...answer, id })}\n`);
      done();
    },
  });
  return { qmp: new Qmp(stream), asked };
}

const REQUEST = { index: 1, overlayFd: 9, signal: new AbortController().signal };
const receiver = (received: Promise<void>) => ({
  uri: 'unix:/nowhere',
  received,
  [Symbol.asyncDispose]: async () => {},
});

test('memory first, then the new overlay on the one written so far; the guest stands still from before to behind it', async () => {
  const snapshots: object[] = [];
  const { qmp, asked } = session({
    'query-migrate': () => ({ status: 'completed' }),
    'blockdev-snapshot': args => void snapshots.push(args),
  });
  const ms = await freeze(qmp, { ...REQUEST, memoryPath: '/nowhere', receiver: receiver(Promise.resolve()) });
  assert.ok(ms >= 0);
  assert.deepEqual(asked, [
    ...['migrate-set-parameters', 'blockdev-add'],
    ...['stop', 'migrate', 'query-migrate', 'blockdev-snapshot', 'cont'],
  ]);
  assert.deepEqual(snapshots, [{ node: 'disk-overlay-0', overlay: 'disk-overlay-1' }]);
});

const REFUSALS: readonly (readonly [string, Answers, () => Promise<void>, object])[] = [
  [
    'QEMU cannot hand over the memory',
    { 'query-migrate': () => ({ status: 'failed', 'error-desc': 'no way' }) },
    async () => {},
    { code: 'InternalError', message: /no way/ },
  ],
  [
    'the host has no space left',
    { 'query-migrate': () => ({ status: 'failed' }) },
    () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })),
    { code: 'DiskFull' },
  ],
  [
    'the host has no space left, which QEMU learns of first',
    { 'query-migrate': () => ({ status: 'failed' }) },
    async () => {
      await sleep(50);
      throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    },
    { code: 'DiskFull' },
  ],
  [
    'QEMU refuses the overlay',
    {
      'query-migrate': () => ({ status: 'completed' }),
      'blockdev-snapshot': () => {
        throw new Error('busy');
      },
    },
    async () => {},
    { code: 'InternalError', message: /busy/ },
  ],
];

for (const [what, answers, received, expected] of REFUSALS)
  test(`${what}: said, nothing left, and the guest goes on as before`, async () => {
    const scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-freeze-'));
    try {
      const memoryPath = path.join(scratch, 'memory');
      await writeFile(memoryPath, 'half of it');
      const { qmp, asked } = session(answers);
      await assert.rejects(freeze(qmp, { ...REQUEST, memoryPath, receiver: receiver(received()) }), expected);
      assert.equal(existsSync(memoryPath), false);
      assert.ok(asked.includes('blockdev-del'));
      assert.equal(asked.at(-1), 'cont');
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  });

test('a machine that does not go on is lost, though what was frozen is whole', async () => {
  const { qmp } = session({
    'query-migrate': () => ({ status: 'completed' }),
    cont: () => {
      throw new Error('no');
    },
  });
  const request = { ...REQUEST, memoryPath: '/nowhere', receiver: receiver(Promise.resolve()) };
  await assert.rejects(freeze(qmp, request), { code: 'MachineLost' });
});

test('a machine that comes in runs when it is all there', async () => {
  const states = ['inmigrate', 'inmigrate', 'paused'];
  const { qmp, asked } = session({ 'query-status': () => ({ status: states.shift() }) });
  await thaw(qmp, REQUEST.signal);
  assert.deepEqual(asked, ['query-status', 'query-status', 'query-status', 'cont']);
});
