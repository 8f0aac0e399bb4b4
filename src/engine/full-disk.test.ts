/** No room for the database: nobody waits for ever for what cannot be written, and it is told when there is room again. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import type { OperationRow } from '../database/schema.ts';
import { openHome } from '../home.ts';
import { run } from '../processes/process.ts';
import { type Engine, openEngine } from './engine.ts';

delete process.env.DATABASE_URL;
const log = () => undefined;
const options = { skip: process.getuid?.() === 0 ? false : 'only root may mount a small file system' };
const within = (seconds: number) => ({ signal: AbortSignal.timeout(seconds * 1000) });

/** A state directory of its own file system, and an operation `fail` that fills it, does that with the database, and ends with that error. */
async function smallHome(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'kiln-small-'));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'kiln-test', root]);
  await chmod(root, 0o711);
  const opened: (() => Promise<void>)[] = [];
  t.after(async () => {
    for (const close of opened) await close();
    await run('umount', ['--lazy', root]);
    await rm(root, { recursive: true });
  });
  const home = await openHome({ home: root, env: {} });
  const ballast = join(root, 'ballast');
  return {
    async open(message = '', spoil: (query: (text: string) => Promise<unknown>) => Promise<void> = async () => {}) {
      const database = await openDatabase({ home, log });
      const { kysely } = database;
      const fail = async () => {
        const { bavail, bsize } = await statfs(root);
        await run('fallocate', ['-l', String(bavail * bsize), ballast]);
        await spoil(text => sql.raw(text).execute(kysely));
        throw new KilnError('StepFailed', message);
      };
      const engine = await openEngine({ database, home, handlers: [{ kind: 'fail', run: fail }], log });
      let closing: Promise<void> | undefined;
      const close = () => (closing ??= engine.close().then(() => database.close()));
      opened.push(close);
      return { engine, kysely, close };
    },
    empty: () => rm(ballast),
  };
}

async function submit({ engine, kysely }: { engine: Engine; kysely: Database['kysely'] }) {
  const submission = { kind: 'fail', resourceId: null, input: {}, where: 'here' } as const;
  return await kysely.transaction().execute(trx => engine.submit(trx, submission));
}

test(
  'no room for the end of an operation: whoever waits is told, and it is written when there is room',
  options,
  async t => {
    const home = await smallHome(t);
    const opened = await home.open(randomBytes(100_000).toString('hex'));
    const id = await submit(opened);
    await assert.rejects(opened.engine.wait(id, within(20)), { code: 'DiskFull' });
    await home.empty();
    const written = async (): Promise<OperationRow> =>
      await opened.engine.wait(id, within(20)).catch(async () => {
        await sleep(100);
        return await written();
      });
    const { error } = await written();
    assert.equal(error?.code, 'StepFailed');
    await opened.close();
  },
);

test('the database cannot start again: whoever waits is told, and closing does not wait', options, async t => {
  const home = await smallHome(t);
  const opened = await home.open('', async query => {
    // Until the write-ahead log needs another file, which is the end of the server.
    const message = "select pg_logical_emit_message(true, 'kiln', repeat('x', 500000))";
    await assert.rejects(async () => {
      for (;;) await query(message);
    });
  });
  const id = await submit(opened);
  await assert.rejects(opened.engine.wait(id, within(60)), { code: 'DiskFull' });
  const begun = Date.now();
  await opened.close();
  assert.ok(Date.now() - begun < 15_000, `closing took ${Date.now() - begun} ms`);
  await home.empty();
  const again = await home.open();
  // This process is the worker, and lives; another one's sweep would end it.
  const left = await again.kysely.selectFrom('operation').select('status').where('id', '=', id).executeTakeFirst();
  assert.equal(left?.status, 'Running');
});
