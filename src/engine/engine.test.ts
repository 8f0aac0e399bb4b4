/** One real server and home for all; workers that are to be killed are processes of their own. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../arm/errors.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import type { OperationRow } from '../database/schema.ts';
import { type Home, openHome } from '../home.ts';
import { type Engine, openEngine, type Submission } from './engine.ts';
import type { OperationHandler } from './operation.ts';
import { openQueue, ownQueue } from './queue.ts';

delete process.env.DATABASE_URL;
const log = () => undefined;

let home: Home;
let database: Database;
/** A line for every begin and end of a `trace` operation, from every process. */
let trace: string;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-engine-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  trace = join(root, 'trace');
  database = await openDatabase({ home, log });
});

after(async () => {
  await database.close();
  await rm(home.root, { recursive: true, force: true });
});

const handlers: OperationHandler[] = [
  { kind: 'echo', run: async (_context, input) => input },
  {
    kind: 'hold',
    run: async ({ signal }) => await sleep(60_000, undefined, { signal }),
  },
  {
    kind: 'refuse',
    async run() {
      throw new KilnError('StepFailed', 'It printed \0 and died.', { target: 'customize[0]', hint: 'Look.' });
    },
  },
  {
    kind: 'trace',
    async run({ attempt, signal }, input) {
      const { name, milliseconds } = input as { name: string; milliseconds: number };
      await appendFile(trace, `begin ${name} ${attempt} ${process.pid}\n`);
      await sleep(milliseconds, undefined, { signal });
      await appendFile(trace, `end ${name} ${attempt} ${process.pid}\n`);
      return { attempt, pid: process.pid };
    },
  },
];

async function traced(name: string): Promise<string[]> {
  const text = await readFile(trace, 'utf8').catch(() => '');
  return text.split('\n').filter(line => line.split(' ')[1] === name);
}

async function engineOf(t: TestContext, more: OperationHandler[] = []): Promise<Engine> {
  const engine = await openEngine({ database, home, handlers: [...handlers, ...more], log });
  t.after(() => engine.close());
  return engine;
}

const submit = (engine: Engine, submission: Partial<Submission>) =>
  database.kysely
    .transaction()
    .execute(trx => engine.submit(trx, { kind: 'echo', resourceId: null, input: {}, where: 'here', ...submission }));

const within = () => ({ signal: AbortSignal.timeout(30_000) });
const rowOf = (id: string) =>
  database.kysely.selectFrom('operation').selectAll().where('id', '=', id).executeTakeFirstOrThrow();

async function until<T>(read: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  for (const deadline = Date.now() + 25_000; ; await sleep(30)) {
    const value = await read();
    if (good(value)) return value;
    assert.ok(Date.now() < deadline, `still ${JSON.stringify(value)}`);
  }
}

/** A worker in a process of its own, which does what its script says. `lines` are what it prints. */
async function worker(t: TestContext, body: string): Promise<{ process: ChildProcess; line: () => Promise<string> }> {
  const path = (name: string) => JSON.stringify(join(import.meta.dirname, name));
  const script = `
    import { appendFile } from 'node:fs/promises';
    import { setTimeout as sleep } from 'node:timers/promises';
    import { openHome } from ${path('../home.ts')};
    import { openDatabase } from ${path('../database/connection.ts')};
    import { openEngine } from ${path('engine.ts')};
    const home = await openHome({ home: ${JSON.stringify(home.root)}, env: {} });
    const database = await openDatabase({ home, log() {} });
    const handlers = [
      { kind: 'hold', run: async ({ signal }) => { console.log('holding'); await sleep(60_000, undefined, { signal }); } },
      { kind: 'trace', run: async ({ attempt, signal }, { name, milliseconds }) => {
        await appendFile(${JSON.stringify(trace)}, 'begin ' + name + ' ' + attempt + ' ' + process.pid + '\\n');
        console.log('tracing');
        await sleep(milliseconds, undefined, { signal });
        await appendFile(${JSON.stringify(trace)}, 'end ' + name + ' ' + attempt + ' ' + process.pid + '\\n');
        return { attempt, pid: process.pid };
      } },
    ];
    const engine = await openEngine({ database, home, handlers, log() {} });
    const submit = submission => database.kysely.transaction().execute(trx => engine.submit(trx, { resourceId: null, input: {}, ...submission }));
    console.log(engine.worker);
    ${body}`;
  const process_ = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => process_.kill('SIGKILL'));
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  return { process: process_, line: async () => String((await lines.next()).value) };
}

/** Until PostgreSQL has seen it too: the kernel closes the sockets of a killed process after its parent hears of it. */
async function kill(process_: ChildProcess, engine: Engine, id: string): Promise<void> {
  process_.kill('SIGKILL');
  if (process_.exitCode === null && process_.signalCode === null) await once(process_, 'exit');
  await until(
    () => engine.isAlive(id),
    alive => !alive,
  );
}

test('an operation is executed and its result is in its row', async t => {
  const engine = await engineOf(t);
  const id = await submit(engine, { input: { deep: [1, 'two', null] }, resourceId: '/a/b' });
  const row = await engine.wait(id, within());
  assert.equal(row.status, 'Succeeded');
  assert.deepEqual(row.output, { deep: [1, 'two', null] });
  assert.equal(row.worker, engine.worker);
  assert.equal(row.attempt, 1);
  assert.ok(row.created_at <= row.started_at! && row.started_at! <= row.ended_at!);
});

test('an error is in the row as the user is to see it; what a guest printed cannot break it', async t => {
  const engine = await engineOf(t);
  const row = await engine.wait(await submit(engine, { kind: 'refuse' }), within());
  assert.equal(row.status, 'Failed');
  assert.deepEqual(row.error, {
    code: 'StepFailed',
    message: 'It printed \uFFFD and died.',
    target: 'customize[0]',
    hint: 'Look.',
  });
});

test('what is submitted in a transaction that is rolled back never was', async t => {
  const engine = await engineOf(t);
  let id = '';
  await assert.rejects(
    database.kysely.transaction().execute(async trx => {
      id = await engine.submit(trx, {
        kind: 'trace',
        resourceId: null,
        input: { name: 'rolled-back', milliseconds: 0 },
        where: 'here',
      });
      throw new Error('no');
    }),
    /no/,
  );
  // One that is submitted later has run: the queue was looked at since.
  await engine.wait(await submit(engine, {}), within());
  await assert.rejects(engine.wait(id), { code: 'NotFound' });
  assert.deepEqual(await traced('rolled-back'), []);
});

test('many at once, also ones that wait for others', async t => {
  const nested: OperationHandler = {
    kind: 'nested',
    async run({ signal }) {
      const inner = await submit(engine, { input: 'inner' });
      return (await engine.wait(inner, { signal })).output;
    },
  };
  const engine = await engineOf(t, [nested]);
  const ids = await Promise.all(Array.from({ length: 25 }, () => submit(engine, { kind: 'nested' })));
  const rows = await Promise.all(ids.map(id => engine.wait(id, within())));
  assert.deepEqual(new Set(rows.map(row => row.output)), new Set(['inner']));
});

test('a cancel request aborts the handler, whoever asks', async t => {
  const [engine, other] = [await engineOf(t), await engineOf(t)];
  const id = await submit(engine, { kind: 'hold' });
  await until(
    () => rowOf(id),
    row => row.status === 'Running',
  );
  assert.equal(await other.cancel(id), true);
  const row = await other.wait(id, within());
  assert.equal(row.status, 'Canceled');
  assert.equal(row.error?.code, 'Canceled');
  assert.equal(await other.cancel(id), false, 'it has ended');
  await assert.rejects(other.cancel(engine.worker), { code: 'NotFound' });
});

test('an operation that was canceled before anybody began it never begins', async t => {
  const settled: string[] = [];
  const hooked: OperationHandler = {
    kind: 'hooked',
    run: async () => assert.fail('it must not run'),
    async abandoned(_trx, operation, error) {
      settled.push(`${operation.id} ${error.code}`);
      return undefined;
    },
  };
  const engine = await engineOf(t, [hooked]);
  const id = await submit(engine, { kind: 'hooked', where: 'anywhere' });
  assert.equal(await engine.cancel(id), true);
  assert.equal((await engine.wait(id, within())).status, 'Canceled');
  assert.deepEqual(settled, [`${id} Canceled`]);
  await engine.serve({ concurrency: 1 });
  await engine.wait(await submit(engine, { where: 'anywhere' }), within());
  assert.equal((await rowOf(id)).attempt, 0);
});

test('a deadline ends in Timeout', async t => {
  const engine = await engineOf(t);
  const row = await engine.wait(await submit(engine, { kind: 'hold', timeoutSeconds: 1 }), within());
  assert.equal(row.status, 'Failed');
  assert.equal(row.error?.code, 'Timeout');
});

test('a limit of the whole goes on where another worker takes over; one of an attempt begins anew', async t => {
  const limited: OperationHandler = { ...handlers.find(({ kind }) => kind === 'hold')!, kind: 'whole', limit: 'whole' };
  const first = await engineOf(t, [limited]);
  await first.serve({ concurrency: 2 });
  const submitted = (kind: string) => submit(first, { kind, where: 'anywhere', timeoutSeconds: 1_800 });
  const [whole, each] = [await submitted('whole'), await submitted('hold')];
  for (const id of [whole, each])
    await until(
      () => rowOf(id),
      ({ status }) => status === 'Running',
    );
  await first.close();
  await database.kysely
    .updateTable('operation')
    .set({ started_at: new Date(Date.now() - 1_799_000) })
    .where('id', 'in', [whole, each])
    .execute();
  const second = await engineOf(t, [limited]);
  await second.serve({ concurrency: 2 });
  const ended = await second.wait(whole, within());
  assert.deepEqual([ended.status, ended.error?.code, ended.attempt], ['Failed', 'Timeout', 2]);
  await until(
    () => rowOf(each),
    ({ attempt }) => attempt === 2,
  );
  await second.cancel(each);
  assert.equal((await second.wait(each, within())).status, 'Canceled');
});

test('who stops waiting stops nothing', async t => {
  const engine = await engineOf(t);
  const id = await submit(engine, { kind: 'hold' });
  await assert.rejects(engine.wait(id, { signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
  assert.ok(['NotStarted', 'Running'].includes((await rowOf(id)).status));
  await engine.cancel(id);
  assert.equal((await engine.wait(id, within())).status, 'Canceled');
});

test('a shared operation waits for a worker that serves; one of its own queue never goes elsewhere', async t => {
  const [here, other] = [await engineOf(t), await engineOf(t)];
  const shared = await submit(here, { where: 'anywhere', kind: 'trace', input: { name: 'shared', milliseconds: 0 } });
  const own = await submit(here, { input: 1 });
  assert.equal((await here.wait(own, within())).worker, here.worker);
  assert.equal((await rowOf(shared)).status, 'NotStarted');
  await other.serve({ concurrency: 2 });
  assert.equal((await here.wait(shared, within())).worker, other.worker);
  assert.equal((await traced('shared')).length, 2);
});

test('what is short does not wait behind heavy operations; those wait for each other', async t => {
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  const heavy: OperationHandler = {
    kind: 'heavy',
    heavy: true,
    async run() {
      begun.resolve();
      await end.promise;
    },
  };
  const engine = await engineOf(t, [heavy]);
  await engine.serve({ concurrency: 2, builds: 1 });
  const first = await submit(engine, { where: 'anywhere', kind: 'heavy' });
  await begun.promise;
  const second = await submit(engine, { where: 'anywhere', kind: 'heavy' });
  const short = await Promise.all(Array.from({ length: 6 }, () => submit(engine, { where: 'anywhere' })));
  for (const id of short) assert.equal((await engine.wait(id, within())).status, 'Succeeded');
  assert.deepEqual([(await rowOf(first)).status, (await rowOf(second)).status], ['Running', 'NotStarted']);
  end.resolve();
  assert.equal((await engine.wait(second, within())).status, 'Succeeded');
});

test('a server without builds leaves them to others', async t => {
  const heavy: OperationHandler = { kind: 'heavy', heavy: true, run: async () => 'built' };
  const [front, builder] = [await engineOf(t, [heavy]), await engineOf(t, [heavy])];
  await front.serve({ concurrency: 1, builds: 0 });
  const id = await submit(front, { where: 'anywhere', kind: 'heavy' });
  assert.equal((await front.wait(await submit(front, { where: 'anywhere' }), within())).status, 'Succeeded');
  assert.equal((await rowOf(id)).status, 'NotStarted');
  await builder.serve({ concurrency: 1 });
  assert.equal((await front.wait(id, within())).worker, builder.worker);
});

test('no operation is executed twice, however many serve', async t => {
  const engines = await Promise.all(Array.from({ length: 3 }, () => engineOf(t)));
  for (const engine of engines) await engine.serve({ concurrency: 2 });
  const ids = await Promise.all(
    Array.from({ length: 12 }, (_, index) =>
      submit(engines[index % 3]!, { where: 'anywhere', kind: 'trace', input: { name: 'many', milliseconds: 5 } }),
    ),
  );
  await Promise.all(ids.map(id => engines[0]!.wait(id, within())));
  assert.equal((await traced('many')).filter(line => line.startsWith('begin')).length, 12);
});

test('kill -9 of the process: the sweep says so at once, and settles what belongs to it', async t => {
  const settled: OperationRow[] = [];
  const hold: OperationHandler = {
    kind: 'hold',
    run: async () => undefined,
    async abandoned(trx, operation) {
      // In the same transaction: neither is seen without the other.
      assert.equal(
        (await trx.selectFrom('operation').selectAll().where('id', '=', operation.id).executeTakeFirst())?.status,
        'Running',
      );
      settled.push(operation);
      return undefined;
    },
  };
  const engine = await engineOf(t, [hold]);
  const dying = await worker(t, `console.log(await submit({ kind: 'hold', where: 'here' }));`);
  const id = await dying.line();
  const spoken = [await dying.line(), await dying.line()];
  const operation = spoken.find(line => line !== 'holding')!;
  assert.equal(await engine.isAlive(id), true);
  assert.deepEqual((await engine.sweep()).operations, []);
  await kill(dying.process, engine, id);

  const waiting = engine.wait(operation, within());
  const swept = await engine.sweep();
  assert.deepEqual(
    swept.workers.map(row => row.id),
    [id],
  );
  assert.deepEqual(
    swept.operations.map(row => row.id),
    [operation],
  );
  assert.deepEqual(
    settled.map(row => row.id),
    [operation],
  );
  const row = await waiting;
  assert.equal(row.status, 'Failed');
  assert.equal(row.error?.code, 'WorkerLost');
  assert.match(row.error!.message, new RegExp(`pid ${dying.process.pid} on`));
  assert.deepEqual(await engine.sweep(), { workers: [], operations: [] }, 'a second sweep finds nothing');
  const queues = await database.pool.query('select name from pgboss.queue where name like $1', [`%${id}`]);
  assert.deepEqual(queues.rows, [], 'its queue is gone');
});

test('the hook may find that the work was done', async t => {
  const hold: OperationHandler = {
    kind: 'hold',
    run: async () => undefined,
    abandoned: async () => ({ status: 'Succeeded', output: 'found in the rows' }),
  };
  const engine = await engineOf(t, [hold]);
  const dying = await worker(t, `await submit({ kind: 'hold', where: 'here' });`);
  const id = await dying.line();
  assert.equal(await dying.line(), 'holding');
  await kill(dying.process, engine, id);
  const { operations } = await engine.sweep();
  assert.equal(operations[0]?.worker, id);
  const row = await rowOf(operations[0]!.id);
  assert.equal(row.status, 'Succeeded');
  assert.equal(row.output, 'found in the rows');
});

test('kill -9 of a serving worker: another redoes its shared operation', async t => {
  const engine = await engineOf(t);
  const dying = await worker(t, `await engine.serve({ concurrency: 1 });`);
  const dead = await dying.line();
  const id = await submit(engine, { where: 'anywhere', kind: 'trace', input: { name: 'redone', milliseconds: 1_500 } });
  assert.equal(await dying.line(), 'tracing');
  assert.equal((await rowOf(id)).worker, dead);
  await kill(dying.process, engine, dead);
  const heir = await worker(t, `await engine.serve({ concurrency: 1 });`);
  const living = await heir.line();
  const row = await engine.wait(id, within());
  assert.equal(row.status, 'Succeeded');
  assert.equal(row.worker, living);
  assert.equal(row.attempt, 2);
  assert.deepEqual(
    (await traced('redone')).map(line => line.split(' ').slice(0, 3).join(' ')),
    ['begin redone 1', 'begin redone 2', 'end redone 2'],
  );
});

test('an operation that kills every worker fails in the end', async t => {
  const engine = await engineOf(t);
  const id = await submit(engine, {
    where: 'anywhere',
    kind: 'trace',
    input: { name: 'poison', milliseconds: 60_000 },
  });
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const victim = await worker(t, `await engine.serve({ concurrency: 1 });`);
    const dead = await victim.line();
    assert.equal(await victim.line(), 'tracing');
    await kill(victim.process, engine, dead);
    await engine.sweep();
  }
  const row = await engine.wait(id, within());
  assert.equal(row.status, 'Failed');
  assert.equal(row.error?.code, 'WorkerLost');
  assert.equal(row.attempt, 3);
});

test('a worker that only stands still keeps its operation', async t => {
  const engine = await engineOf(t);
  const frozen = await worker(
    t,
    `await submit({ kind: 'trace', where: 'here', input: { name: 'frozen', milliseconds: 300 } });`,
  );
  const id = await frozen.line();
  assert.equal(await frozen.line(), 'tracing');
  frozen.process.kill('SIGSTOP');
  assert.equal(await engine.isAlive(id), true);
  assert.deepEqual(await engine.sweep(), { workers: [], operations: [] });
  frozen.process.kill('SIGCONT');
  await until(
    () => traced('frozen'),
    lines => lines.length === 2,
  );
});

test('the database goes away and comes back: the worker goes on, and the result is written', async t => {
  const engine = await engineOf(t);
  const id = await submit(engine, { kind: 'trace', input: { name: 'outage', milliseconds: 400 } });
  await until(
    () => traced('outage'),
    lines => lines.length === 1,
  );
  const pid = Number((await readFile(join(home.postgres, 'postmaster.pid'), 'utf8')).split('\n')[0]);
  process.kill(pid, 'SIGKILL');
  const row = await engine.wait(id, within());
  assert.equal(row.status, 'Succeeded');
  assert.equal((await traced('outage')).length, 2, 'once');
  const next = await submitAgain(() => submit(engine, { input: 'after' }));
  assert.equal((await engine.wait(next, within())).output, 'after');
  await until(
    () => engine.isAlive(engine.worker),
    alive => alive,
  );
});

/** A submission may still meet a connection of before. */
async function submitAgain(attempt: () => Promise<string>): Promise<string> {
  return (await until(
    () => attempt().catch(() => undefined),
    id => id !== undefined,
  ))!;
}

test('closing cancels what runs here, gives back what is shared, and signs off', async t => {
  const engine = await openEngine({ database, home, handlers, log });
  await engine.serve({ concurrency: 1 });
  const own = await submit(engine, { kind: 'hold' });
  const shared = await submit(engine, {
    where: 'anywhere',
    kind: 'trace',
    input: { name: 'given-back', milliseconds: 700 },
  });
  await until(
    () => rowOf(own),
    row => row.status === 'Running',
  );
  await until(
    () => traced('given-back'),
    lines => lines.length === 1,
  );
  await engine.close();
  assert.equal((await rowOf(own)).status, 'Canceled');
  const between = await rowOf(shared);
  assert.deepEqual([between.status, between.worker], ['Running', null]);
  const successor = await engineOf(t);
  assert.equal(await successor.isAlive(engine.worker), false);
  await successor.serve({ concurrency: 1 });
  const row = await successor.wait(shared, within());
  assert.deepEqual([row.status, row.attempt], ['Succeeded', 2]);
  const queues = await database.pool.query('select name from pgboss.queue where name like $1', [`%${engine.worker}`]);
  assert.deepEqual(queues.rows, []);
});

test('two runs of one template at once: the database refuses the second', async t => {
  const engine = await engineOf(t);
  const operation = await engine.wait(await submit(engine, {}), within());
  const run = (state: 'Running' | 'Canceling' | 'Failed') =>
    database.kysely
      .insertInto('run')
      .values({ id: crypto.randomUUID(), operation_id: operation.id, template_id: '/t', template_name: 't', state })
      .execute();
  await run('Failed');
  await run('Running');
  await assert.rejects(run('Canceling'), { code: '23505', constraint: 'run_one_active' });
});

test('processes that remove one queue at once: one does it, the others find it done', async () => {
  const queue = await openQueue(database, log);
  try {
    for (let round = 0; round < 5; round++) {
      const name = ownQueue(crypto.randomUUID());
      await queue.create(name);
      await Promise.all(Array.from({ length: 6 }, () => queue.remove(name)));
      const left = await database.pool.query('select name from pgboss.queue where name = $1', [name]);
      assert.deepEqual(left.rows, []);
    }
  } finally {
    await queue.close();
  }
});
