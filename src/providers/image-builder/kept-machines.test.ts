import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, test } from 'node:test';
import { temporaryHome } from '../../../test/kiln.ts';
import type { HeldMachine } from '../../builds/keep.ts';
import { type Database, openDatabase } from '../../database/connection.ts';
import { json } from '../../database/json.ts';
import { openHome } from '../../home.ts';
import { dropKept, dropKeptOf, forgetKept, KeptMachines } from './kept-machines.ts';

let home: Awaited<ReturnType<typeof temporaryHome>>;
let database: Database;
let kept: KeptMachines;
const worker = randomUUID();
let left: number | undefined;
/** Runs whose machine is gone. */
let gone: string[] = [];

before(async () => {
  home = await temporaryHome();
  database = await openDatabase({ home: await openHome({ home: home.path }), log: () => {} });
});
after(async () => {
  await kept?.close();
  await database?.close();
  await home?.remove();
});
beforeEach(async () => {
  await kept?.close();
  left = undefined;
  gone = [];
  const options = { database: database.kysely, log: () => {}, worker: () => worker };
  kept = new KeptMachines({ ...options, memoryLeft: async () => left });
});

async function failedRun(template = '/t'): Promise<string> {
  const id = randomUUID();
  const { kysely } = database;
  await kysely
    .insertInto('operation')
    .values({ id, kind: 'run', resource_id: template, queue: 'q', input: json({}), timeout_seconds: null })
    .execute();
  await kysely
    .insertInto('run')
    .values({ id, operation_id: id, template_id: template, template_name: 't', state: 'Failed' })
    .execute();
  return id;
}

const rowOf = (id: string) =>
  database.kysely
    .selectFrom('run')
    .select(['kept_by', 'kept_until', 'kept_command'])
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
const NOTHING = { kept_by: null, kept_until: null, kept_command: null };

async function hold(id: string, minutes = 60, machine: Partial<HeldMachine> = {}): Promise<void> {
  const place = await kept.reserve(id, { minutes, memoryMiB: 1024 });
  assert.ok(typeof place !== 'string');
  await place.hold({ command: 'ssh there', drop: async () => void gone.push(id), ...machine });
}

test('a held machine is told of in its row, and any process ends it there', async () => {
  const id = await failedRun();
  await hold(id);
  const row = await rowOf(id);
  assert.equal(row.kept_by, worker);
  assert.equal(row.kept_command, 'ssh there');
  const ended = kept.ended(id);
  await dropKeptOf(database.kysely, id);
  assert.deepEqual(gone, [id]);
  assert.equal(await ended, 'dropped');
  assert.deepEqual(await rowOf(id), NOTHING);
  await assert.rejects(dropKeptOf(database.kysely, id), { code: 'Conflict' });
});

test('the deadline, the machine itself and the end of the process end it too', async () => {
  const [late, broken, last] = [await failedRun(), await failedRun(), await failedRun()];
  await hold(late, 1 / 60);
  assert.equal(await kept.ended(late), 'deadline');
  const ending = new AbortController();
  await hold(broken, 60, { gone: ending.signal });
  const ended = kept.ended(broken);
  ending.abort();
  assert.equal(await ended, 'ended by itself');
  await hold(last);
  const closed = kept.ended(last);
  await kept.close();
  assert.equal(await closed, 'closing');
  assert.deepEqual(gone, [late, broken, last]);
  assert.deepEqual(await rowOf(last), NOTHING);
  assert.match(String(await kept.reserve(late, { minutes: 1, memoryMiB: 1 })), /closing/);
});

test('a machine whose end is what its drop brings about is dropped once', async () => {
  const id = await failedRun();
  const ending = new AbortController();
  const drop = async () => {
    gone.push(id);
    ending.abort();
  };
  await hold(id, 60, { gone: ending.signal, drop });
  const ended = kept.ended(id);
  await kept.drop(id);
  assert.equal(await ended, 'dropped');
  assert.deepEqual(gone, [id]);
});

test('of a template all are dropped, of others none', async () => {
  const [mine, others] = [await failedRun('/mine'), await failedRun('/others')];
  await hold(mine);
  await hold(others);
  const ended = kept.ended(mine);
  await dropKept(database.kysely, { template: '/MINE' });
  assert.equal(await ended, 'dropped');
  assert.deepEqual(gone, [mine]);
  assert.notEqual((await rowOf(others)).kept_until, null);
});

test('a server keeps so many, and none where builds have no memory left', async () => {
  const limits = { minutes: 1, memoryMiB: 1024, atMost: 1 };
  const [first, second] = [await failedRun(), await failedRun()];
  left = 1024 * 1024 * 1024 - 1;
  assert.match(String(await kept.reserve(first, limits)), /1024 MiB of memory left/);
  left = 1024 * 1024 * 1024;
  assert.notEqual(typeof (await kept.reserve(first, limits)), 'string');
  // Promised already, though the build has not given its machine yet.
  assert.match(String(await kept.reserve(second, limits)), new RegExp(first));
  assert.match(String(await kept.reserve(second, { ...limits, atMost: 0 })), /keeps none/);
  assert.notEqual(typeof (await kept.reserve(second, { minutes: 1, memoryMiB: 1024 })), 'string');
});

test('what dead holders said is forgotten', async () => {
  const id = await failedRun();
  await hold(id);
  await forgetKept(database.kysely, async () => true);
  assert.notEqual((await rowOf(id)).kept_by, null);
  await forgetKept(database.kysely, async () => false);
  assert.deepEqual(await rowOf(id), NOTHING);
});
