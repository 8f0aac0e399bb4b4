import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openDatabase } from '../database/connection.ts';
import { openHome } from '../home.ts';
import { openEngine } from './engine.ts';

const HOUR = 3_600_000;

test('results are kept for more than a day, then forgotten; those of runs stay', async t => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-sweep-'));
  await chmod(root, 0o711);
  t.after(() => rm(root, { recursive: true, force: true }));
  const log = () => undefined;
  const home = await openHome({ home: root, env: {} });
  await using stack = new AsyncDisposableStack();
  const database = await openDatabase({ home, log });
  stack.defer(() => database.close());
  const engine = await openEngine({
    database,
    home,
    log,
    handlers: [{ kind: 'echo', run: async (_, input) => input }],
  });
  stack.defer(() => engine.close());
  const { kysely } = database;
  const ended = async (hoursAgo: number) => {
    const id = await kysely
      .transaction()
      .execute(trx => engine.submit(trx, { kind: 'echo', resourceId: null, input: 1, where: 'here' }));
    await engine.wait(id);
    const at = new Date(Date.now() - hoursAgo * HOUR);
    await kysely.updateTable('operation').set({ ended_at: at }).where('id', '=', id).execute();
    return id;
  };
  const [recent, old, ofRun] = [await ended(25), await ended(49), await ended(49)];
  await kysely
    .insertInto('run')
    .values({ id: ofRun!, operation_id: ofRun!, template_id: '/t', template_name: 't', state: 'Succeeded' })
    .execute();
  await engine.sweep();
  const left = await kysely.selectFrom('operation').select('id').execute();
  assert.deepEqual(new Set(left.map(({ id }) => id)), new Set([recent, ofRun]));
  assert.ok(!left.some(({ id }) => id === old));
});
