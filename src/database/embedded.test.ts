/** Real servers in homes of their own. Children are separate Kiln processes: they can be killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Home, openHome } from '../home.ts';
import { runAs } from './account.ts';
import { copyOnce, findBinaries } from './binaries.ts';
import {
  type Database,
  type DatabaseOptions,
  isAway,
  openDatabase as openReally,
  whenReachable,
} from './connection.ts';

const isRoot = process.getuid?.() === 0;
const log = () => undefined;
// The embedded server is meant here, whatever the caller's environment says.
delete process.env.DATABASE_URL;

/** Who is still open when a test fails would start the server again, and keep the tests from ending. */
const open = new Map<string, Database[]>();

async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const database = await openReally(options);
  const { root } = options.home;
  open.set(root, [...(open.get(root) ?? []), database]);
  let closing: Promise<void> | undefined;
  return {
    ...database,
    close() {
      open.set(
        root,
        (open.get(root) ?? []).filter(one => one !== database),
      );
      closing ??= database.close();
      return closing;
    },
  };
}

/** A home that is gone after the test, with whatever server it has. */
async function temporaryHome(t: TestContext, parent = tmpdir()): Promise<Home> {
  const root = await mkdtemp(join(parent, 'kiln-pg-'));
  await chmod(root, 0o711);
  t.after(async () => {
    await Promise.allSettled((open.get(root) ?? []).map(database => database.close()));
    const pid = await serverPid(root);
    if (pid !== undefined) process.kill(pid, 'SIGQUIT');
    await until(async () => (await serverPid(root)) === undefined);
    await rm(root, { recursive: true, force: true });
  });
  return await openHome({ home: root, env: {} });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 120_000; !(await condition()); await sleep(20))
    assert.ok(Date.now() < deadline, `still not: ${condition}`);
}

/** The process whose working directory is the data, as seen by the kernel and not by our own code. */
async function serverPid(root: string): Promise<number | undefined> {
  const text = await readFile(join(root, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(text.split('\n')[0]);
  if (!(pid > 0)) return undefined;
  return (await readlink(`/proc/${pid}/cwd`).catch(() => '')) === join(root, 'postgres') ? pid : undefined;
}

const program = (root: string, body: string) => `
  import { openHome } from ${JSON.stringify(join(import.meta.dirname, '..', 'home.ts'))};
  import { openDatabase } from ${JSON.stringify(join(import.meta.dirname, 'connection.ts'))};
  const home = await openHome({ home: ${JSON.stringify(root)}, env: {} });
  try {
    const database = await openDatabase({ home, log() {} });
    ${body}
  } catch (error) {
    console.log(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }));
  }`;

function child(t: TestContext, root: string, body: string, prefix: string[] = []): ChildProcess {
  const [command, ...args] = [...prefix, process.execPath, '--input-type=module', '-e', program(root, body)];
  const started = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => started.kill('SIGKILL'));
  return started;
}

async function said(process_: ChildProcess): Promise<string> {
  let text = '';
  for await (const chunk of process_.stdout!) text += chunk;
  return text;
}

test('the server is made, found again with its data, and stopped by the last one out', async t => {
  const home = await temporaryHome(t);
  const first = await openDatabase({ home, log });
  const second = await openDatabase({ home, log });
  const running = await serverPid(home.root);
  assert.ok(running);
  await sql`create table kept (value int8)`.execute(first.kysely);
  await sql`insert into kept values (7)`.execute(first.kysely);
  await first.close();
  assert.equal(await serverPid(home.root), running, 'the other still uses it');
  assert.deepEqual((await sql`select * from kept`.execute(second.kysely)).rows, [{ value: 7 }]);
  await second.close();
  assert.equal(await serverPid(home.root), undefined);
  const third = await openDatabase({ home, log });
  assert.deepEqual((await sql`select * from kept`.execute(third.kysely)).rows, [{ value: 7 }]);
  const settings = await sql<{ name: string; setting: string }>`
    select name, setting from pg_settings where name in ('fsync', 'listen_addresses', 'full_page_writes')`.execute(
    third.kysely,
  );
  assert.deepEqual(Object.fromEntries(settings.rows.map(row => [row.name, row.setting])), {
    fsync: 'on',
    full_page_writes: 'on',
    listen_addresses: '',
  });
  await third.close();
});

test('only its owner may enter the directory of the socket and of the data', async t => {
  const home = await temporaryHome(t);
  const database = await openDatabase({ home, log });
  const [socket, data] = await Promise.all([stat(join(home.sockets, 'postgres')), stat(home.postgres)]);
  assert.equal(socket.mode & 0o777, 0o700);
  assert.equal(data.mode & 0o777, 0o700);
  if (isRoot) assert.notEqual(data.uid, 0, 'PostgreSQL refuses to be root');
  await database.close();
});

test('two processes opening an empty home at once share one server', async t => {
  const home = await temporaryHome(t);
  const body = `
    const { rows } = await database.pool.query('select system_identifier::text as id, pg_postmaster_start_time()::text as start from pg_control_system()');
    console.log(JSON.stringify(rows[0]));
    await new Promise(resolve => process.stdin.once('data', resolve));
    process.stdin.destroy();
    await database.close();`;
  const children = [child(t, home.root, body), child(t, home.root, body)];
  const answers = await Promise.all(children.map(async each => String((await once(each.stdout!, 'data'))[0])));
  assert.match(answers[0]!, /"start"/);
  assert.equal(answers[0], answers[1]);
  for (const each of children) each.stdin!.end('go');
  await Promise.all(children.map(each => once(each, 'exit')));
  assert.equal(await serverPid(home.root), undefined, 'nothing is left running');
  assert.deepEqual(
    (await readdir(home.root)).filter(name => name.startsWith('postgres')),
    ['postgres'],
  );
});

test('many coming and going never find the door shut', async t => {
  const home = await temporaryHome(t);
  await (await openDatabase({ home, log })).close();
  const visits = await Promise.allSettled(
    Array.from({ length: 6 }, async (_, index) => {
      await sleep(index * 40);
      for (let round = 0; round < 3; round += 1) {
        const database = await openDatabase({ home, log });
        await database.kysely.selectFrom('run').select('id').execute();
        await database.close();
      }
    }),
  );
  assert.deepEqual(
    visits.filter(visit => visit.status === 'rejected'),
    [],
  );
  assert.equal(await serverPid(home.root), undefined);
});

test('kill -9 of the server: an open database comes back, and so does a new one', async t => {
  const home = await temporaryHome(t);
  const database = await openDatabase({ home, log });
  await sql`create table kept (value text)`.execute(database.kysely);
  await sql`insert into kept values ('acknowledged')`.execute(database.kysely);
  const before = (await serverPid(home.root))!;
  process.kill(before, 'SIGKILL');
  // Its processes outlive it for a moment, and may still answer.
  await until(async () => (await serverPid(home.root)) !== before);
  const { rows } = await whenReachable(
    () => sql`select * from kept`.execute(database.kysely),
    AbortSignal.timeout(120_000),
  );
  assert.deepEqual(rows, [{ value: 'acknowledged' }]);
  assert.notEqual(await serverPid(home.root), before);
  await database.close();
  assert.equal(await serverPid(home.root), undefined);

  const other = child(t, home.root, `console.log('open'); setInterval(() => {}, 1000);`);
  await once(other.stdout!, 'data');
  other.kill('SIGKILL');
  process.kill((await serverPid(home.root))!, 'SIGKILL');
  const reopened = await openDatabase({ home, log });
  assert.equal((await sql`select * from kept`.execute(reopened.kysely)).rows.length, 1);
  await reopened.close();
  assert.equal(await serverPid(home.root), undefined);
});

test('a killed Kiln leaves its server to the next', async t => {
  const home = await temporaryHome(t);
  const other = child(t, home.root, `console.log('open'); setInterval(() => {}, 1000);`);
  await once(other.stdout!, 'data');
  const running = await serverPid(home.root);
  other.kill('SIGKILL');
  await once(other, 'exit');
  assert.equal(await serverPid(home.root), running);
  const database = await openDatabase({ home, log });
  assert.equal(await serverPid(home.root), running);
  await database.close();
  assert.equal(await serverPid(home.root), undefined);
});

test('the number of a dead server may belong to somebody else by now', async t => {
  const home = await temporaryHome(t);
  await (await openDatabase({ home, log })).close();
  // A process of the server's own user, which PostgreSQL takes for another server.
  const owner = await stat(home.postgres);
  const stranger = spawn('sleep', ['60'], { uid: owner.uid, gid: owner.gid, cwd: '/', stdio: 'ignore' });
  t.after(() => stranger.kill('SIGKILL'));
  const pidFile = join(home.postgres, 'postmaster.pid');
  await writeFile(pidFile, `${stranger.pid}\n${home.postgres}\n1\n5432\n${home.sockets}/postgres\n\n`);
  if (isRoot) await chown(pidFile, owner.uid, owner.gid);
  await utimes(pidFile, new Date(0), new Date(0));
  const database = await openDatabase({ home, log });
  assert.notEqual(await serverPid(home.root), stranger.pid);
  await database.close();
});

test("without root the server is the user's own", { skip: !isRoot && 'needs root to become another user' }, async t => {
  const parent = await mkdtemp(join(tmpdir(), 'kiln-pg-'));
  t.after(() => rm(parent, { recursive: true, force: true }));
  await chmod(parent, 0o777);
  const root = join(parent, 'home');
  const body = `console.log(JSON.stringify((await database.pool.query('select 1 as one')).rows)); await database.close();`;
  const nobody = child(t, root, body, ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']);
  assert.equal((await said(nobody)).trim(), '[{"one":1}]');
  assert.equal((await stat(join(root, 'postgres'))).uid, 65_534);
  assert.equal(await serverPid(root), undefined);
});

test("a home that the server's user cannot reach is named", { skip: !isRoot && 'needs root' }, async t => {
  const closed = await mkdtemp(join(tmpdir(), 'kiln-closed-'));
  t.after(() => rm(closed, { recursive: true, force: true }));
  const home = await openHome({ home: join(closed, 'home'), env: {} });
  await assert.rejects(openDatabase({ home, log }), (error: Error & { code: string; hint: string }) => {
    assert.equal(error.code, 'StateUnwritable');
    assert.match(error.message, /cannot reach/);
    assert.match(error.hint, /\/var\/lib/);
    return true;
  });
  assert.deepEqual(
    (await readdir(home.root)).filter(name => name.startsWith('postgres')),
    [],
    'nothing half-written',
  );
});

test('a full disk is told as such', { skip: !isRoot && 'needs root to mount' }, async t => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-full-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await chmod(root, 0o711);
  // The mount is the child's own; it ends with it.
  const prefix = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=12m,mode=711 tmpfs "$0" && exec "$@"', root];
  const error = JSON.parse(await said(child(t, root, 'await database.close();', prefix)));
  assert.equal(error.code, 'DiskFull');
  assert.match(error.message, /space/);
});

test('data that the server cannot use is told with its log', async t => {
  const home = await temporaryHome(t);
  await (await openDatabase({ home, log })).close();
  await rm(join(home.postgres, 'global'), { recursive: true });
  await assert.rejects(openDatabase({ home, log }), (error: Error & { code: string; hint: string }) => {
    assert.equal(error.code, 'DatabaseUnavailable');
    assert.match(error.message, /pg_control/);
    assert.match(error.hint, /postgresql\.log/);
    return true;
  });
});

test('data of another major version asks for that version', async t => {
  const home = await temporaryHome(t);
  await mkdir(home.postgres);
  if (isRoot) await chown(home.postgres, 65_534, 65_534);
  await writeFile(join(home.postgres, 'PG_VERSION'), '9\n');
  await assert.rejects(openDatabase({ home, log }), {
    code: 'DatabaseUnavailable',
    message: /PostgreSQL 9/,
    hint: /postgresql-9/,
  });
});

test("programs that the server's user cannot reach are copied, once, with their links", {
  skip: !isRoot && 'needs root',
}, async t => {
  const home = await temporaryHome(t);
  const account = { uid: 65_534, gid: 65_534 };
  const source = (await findBinaries(home.root, account)).bin;
  if (!source.includes('node_modules')) return t.skip('the package is not installed');
  assert.ok(!source.startsWith(home.root), 'no copy where none is needed');
  const target = join(home.root, 'postgresql-test');
  await Promise.all([copyOnce(join(source, '..'), target), copyOnce(join(source, '..'), target)]);
  assert.deepEqual(
    (await readdir(home.root)).filter(name => name.startsWith('postgresql')),
    ['postgresql-test'],
  );
  const { stdout } = await runAs(account, join(target, 'bin', 'postgres'), ['--version']);
  assert.match(stdout, /PostgreSQL/);
});

test('a home with a long path has its socket elsewhere', async t => {
  const parent = await temporaryHome(t);
  const home = await openHome({ home: join(parent.root, 'l'.repeat(100)), env: {} });
  t.after(() => rm(home.sockets, { recursive: true, force: true }));
  const database = await openDatabase({ home, log });
  assert.ok((await stat(join(home.sockets, 'postgres', '.s.PGSQL.5432'))).isSocket());
  await database.close();
  assert.equal(await serverPid(home.root), undefined);
});

test('DATABASE_URL that nobody answers is told without its password', async t => {
  const home = await temporaryHome(t);
  const url = 'postgresql://kiln:secret@127.0.0.1:9/kiln';
  await assert.rejects(openDatabase({ home, log, url }), (error: Error & { code: string; target: string }) => {
    assert.equal(error.code, 'DatabaseUnavailable');
    assert.doesNotMatch(JSON.stringify([error.message, error.target]), /secret/);
    return true;
  });
  assert.equal(await serverPid(home.root), undefined, 'nothing was started beside it');
});

test('a database of a newer Kiln is refused', async t => {
  const home = await temporaryHome(t);
  const database = await openDatabase({ home, log });
  await sql`insert into kiln.kysely_migration (name, timestamp) values ('9999-future', '2100-01-01')`.execute(
    database.kysely,
  );
  await assert.rejects(openDatabase({ home, log }), { code: 'StateTooNew', message: /9999-future/ });
  await database.close();
});

test('a missing file is not a database that is away', () => {
  assert.equal(isAway(Object.assign(new Error('x'), { code: 'ENOENT', syscall: 'open' })), false);
  assert.equal(isAway(Object.assign(new Error('x'), { code: 'ENOENT', syscall: 'connect' })), true);
  assert.equal(isAway(Object.assign(new Error('x'), { code: '23505' })), false);
});
