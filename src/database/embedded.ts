/**
 * The PostgreSQL of a state directory: made when missing, started when it does not run, stopped by the last process that leaves.
 *
 * It listens on a Unix socket only. Who may enter the socket's directory (mode 0700) may connect: `trust`, since `peer` would ask
 * for the database role of the caller's own name, and the caller is root while the server is another user.
 *
 * Every process holds a shared advisory lock, the lease, for as long as it uses the server. The last one out is the one
 * that gets it exclusively; whoever comes meanwhile is refused the lease or thrown out, and starts the server again.
 */
import { spawn } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, open, readdir, readFile, readlink, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { asKilnError, KilnError } from '../arm/errors.ts';
import type { Home } from '../home.ts';
import { type Account, runAs, SERVER_ENVIRONMENT, serverAccount } from './account.ts';
import { findBinaries } from './binaries.ts';
import type { ServiceLog } from './service-log.ts';
import { connectClient, openSession } from './session.ts';

const START_DEADLINE = 30_000;
const STOP_DEADLINE = 10_000;
/** Of a server that starts. */
const POLL_MS = 10;
const ROLE = 'kiln';
/** The advisory lock of those who use the server; any constant that nobody else takes. */
const LEASE = "hashtextextended('kiln embedded server lease', 0)";
const LOG_LIMIT = 1024 * 1024;

/** Small: a build host needs its memory for guests. Durability is left as it is: on. */
function settings(socketDirectory: string, major: number): string[] {
  return [
    'listen_addresses=',
    `unix_socket_directories="${socketDirectory.replaceAll('"', '""')}"`,
    'unix_socket_permissions=0700',
    'max_connections=60',
    'shared_buffers=32MB',
    'max_wal_size=256MB',
    'wal_level=minimal',
    'max_wal_senders=0',
    'max_logical_replication_workers=0',
    'log_min_messages=warning',
    // One process each saved; asynchronous reads gain nothing on so little data.
    ...(major >= 18 ? ['io_method=sync'] : []),
  ];
}

export interface EmbeddedServer {
  /** How to connect, for pools and clients. */
  readonly config: pg.ClientConfig;
  /** Why nobody need wait for it, where it went away and its file system has had no room to start it again for half a minute. */
  noRoom(): KilnError | undefined;
  /** Gives the lease back; the last one stops the server. */
  close(): Promise<void>;
}

/**
 * Joins the server of the state directory. It is repaired while this process uses it: after a crash it is started again.
 * Errors: DatabaseUnavailable (with the last lines of its log), StateUnwritable, DiskFull.
 */
export async function openEmbedded(
  home: Home,
  log: ServiceLog,
  /** Called when there is nothing to do but to wait: the server runs, or has been started. */
  onItsWay: () => void = () => {},
): Promise<EmbeddedServer> {
  const config = { host: await socketDirectory(home), user: ROLE, database: 'postgres' };
  let full: { readonly since: number; readonly error: KilnError } | undefined;
  const session = await openSession({
    async connect(closing) {
      try {
        const client = await acquire({ home, config, log, onItsWay }, closing);
        full = undefined;
        return client;
      } catch (error) {
        if (error instanceof KilnError && error.code === 'DiskFull') full = { since: full?.since ?? Date.now(), error };
        throw error;
      }
    },
    log,
  });
  return {
    config,
    noRoom: () => (full && Date.now() - full.since > START_DEADLINE ? full.error : undefined),
    async close() {
      // While the lease is being repaired there is none; what the repair has started must not stay behind.
      const client = (await session.detach()) ?? (await connectClient(config).catch(() => undefined));
      try {
        if (!client) return;
        await client.query(`select pg_advisory_unlock_shared(${LEASE})`);
        const { rows } = await client.query(`select pg_try_advisory_lock(${LEASE}) as alone`);
        if (rows[0].alone) await stop(home, log);
      } catch (error) {
        // Somebody else stops it, or it is gone.
        log('debug', 'The database went away while it was left.', { error: String(error) });
      } finally {
        await client?.end().catch(() => undefined);
      }
    },
  };
}

interface Starting {
  readonly home: Home;
  readonly config: pg.ClientConfig;
  readonly log: ServiceLog;
  readonly onItsWay: () => void;
}

/** A connection that holds the lease. */
async function acquire(starting: Starting, closing: AbortSignal): Promise<pg.Client> {
  const { home, config, onItsWay } = starting;
  const deadline = Date.now() + START_DEADLINE;
  let failure: KilnError | undefined;
  for (let starts = 0; Date.now() < deadline; await sleep(30)) {
    closing.throwIfAborted();
    let client: pg.Client | undefined;
    try {
      client = await connectClient(config);
    } catch (error) {
      const reason = unreachable(error);
      if (reason === undefined) throw unavailable(home, `PostgreSQL refuses the connection: ${String(error)}`, error);
      if (reason !== 'absent' || (await postmaster(home)) !== undefined) continue;
      // The second failure in a row is not one of two processes starting it at once.
      if (failure && starts > 1 && !transient(failure)) throw failure;
      starts += 1;
      const started = await start(starting);
      failure = started instanceof KilnError ? started : undefined;
      if (failure?.code === 'DiskFull') throw failure;
      if (started instanceof KilnError) continue;
      client = started;
    }
    onItsWay();
    try {
      const { rows } = await client.query(`select pg_try_advisory_lock_shared(${LEASE}) as held`);
      if (rows[0].held) return client;
    } catch {
      // It is being stopped by the last one out.
    }
    await client.end().catch(() => undefined);
  }
  throw failure ?? unavailable(home, `PostgreSQL did not answer within ${START_DEADLINE / 1000} s.`);
}

/** absent: nobody listens. busy: it starts, stops, or has no room. undefined: something else. */
function unreachable(error: unknown): 'absent' | 'busy' | undefined {
  const { code, message } = error as { code?: string; message?: string };
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return 'absent';
  if (/^57P0\d|^53300|^ECONNRESET|^EPIPE|^EAGAIN/.test(code ?? '')) return 'busy';
  return /terminated|timeout/i.test(message ?? '') ? 'busy' : undefined;
}

/** What passes by itself: another process was faster, or the last one's children are still leaving. */
const transient = (failure: KilnError) => /lock file|shared memory block|in use/.test(failure.message);

/** Makes the data when missing, starts the server, and waits until it listens or ends. @returns a connection, or why it ended */
async function start({ home, config, log, onItsWay }: Starting): Promise<pg.Client | KilnError> {
  const account = await serverAccount(home.postgres);
  const major = await dataVersion(home.postgres);
  const binaries = await findBinaries(home.root, account, major);
  if (major === undefined) await initialize(home, binaries.bin, account, log);
  await makeSocketDirectory(config.host!, account);
  await removeForeignPid(home);
  const logFile = await openLog(home);
  try {
    const begin = (await logFile.stat()).size;
    const args = settings(config.host!, binaries.major).flatMap(setting => ['-c', setting]);
    const child = spawn(join(binaries.bin, 'postgres'), ['-D', home.postgres, ...args], {
      ...account,
      // A session of its own: Ctrl-C in the terminal is for Kiln, and other processes may use the server by then.
      detached: true,
      stdio: ['ignore', logFile.fd, logFile.fd],
      env: { ...SERVER_ENVIRONMENT },
      cwd: '/',
    });
    const ended = new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('exit', (code, signal) => resolve(`exit code ${code ?? signal}`));
    });
    child.unref();
    onItsWay();
    for (const deadline = Date.now() + START_DEADLINE; Date.now() < deadline; ) {
      const reason = await Promise.race([ended, sleep(POLL_MS)]);
      if (reason !== undefined) return await startFailure(home, reason, begin);
      const client = await connectClient(config).catch(() => undefined);
      if (!client) continue;
      log('debug', 'PostgreSQL was started.', { pid: child.pid, version: binaries.major });
      return client;
    }
    return await startFailure(home, 'no answer', begin);
  } finally {
    await logFile.close();
  }
}

const logPath = (home: Home) => join(home.logs, 'postgresql.log');

async function openLog(home: Home) {
  const path = logPath(home);
  const size = await stat(path).then(
    found => found.size,
    () => 0,
  );
  if (size > LOG_LIMIT) await rename(path, `${path}.1`);
  return await open(path, 'a', 0o600);
}

async function startFailure(home: Home, reason: string, begin: number): Promise<KilnError> {
  const text = await readFile(logPath(home)).catch(() => Buffer.alloc(0));
  const said = text.subarray(begin).toString('utf8').trim().split('\n').slice(-8).join('\n');
  if (/no space left on device|disk quota exceeded/i.test(said))
    return new KilnError('DiskFull', `No space left for the database in ${home.root}: ${said}`, { target: home.root });
  return unavailable(home, `PostgreSQL did not start (${reason}): ${said || 'it said nothing'}`);
}

function unavailable(home: Home, message: string, cause?: unknown): KilnError {
  return new KilnError('DatabaseUnavailable', message, {
    target: home.postgres,
    hint: `Its log: ${logPath(home)}`,
    ...(cause !== undefined && { cause }),
  });
}

/** undefined: no data yet. */
async function dataVersion(data: string): Promise<number | undefined> {
  try {
    return Number((await readFile(join(data, 'PG_VERSION'), 'utf8')).trim());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asKilnError(error);
  }
}

/** Writes a new database beside its place and moves it there whole: of two processes, the second finds the place taken. */
async function initialize(home: Home, bin: string, account: Account | undefined, log: ServiceLog): Promise<void> {
  const begun = Date.now();
  await sweepUnfinished(home);
  const temporary = await mkdtemp(`${home.postgres}.new-`).catch((error: unknown) => {
    throw asKilnError(error);
  });
  try {
    if (account) {
      await chown(temporary, account.uid, account.gid);
      await reachable(home, temporary, account);
    }
    const args = ['-D', temporary, '-U', ROLE, '--auth=trust', '--encoding=UTF8', '--locale=C'];
    await runAs(account, join(bin, 'initdb'), args);
    await rename(temporary, home.postgres).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    log('info', 'A new database was made.', { milliseconds: Date.now() - begun });
  } catch (error) {
    const known = asKilnError(error);
    if (known.code !== 'InternalError') throw known;
    throw unavailable(home, `The database could not be made: ${known.message}`, error);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** What a process that was killed in `initialize` left; nobody needs ten minutes for it. */
async function sweepUnfinished(home: Home): Promise<void> {
  for (const name of await readdir(home.root)) {
    if (!name.startsWith(`${basename(home.postgres)}.new-`)) continue;
    const path = join(home.root, name);
    const age =
      Date.now() -
      (await stat(path).then(
        found => found.mtimeMs,
        () => Number.POSITIVE_INFINITY,
      ));
    if (age > 600_000) await rm(path, { recursive: true, force: true });
  }
}

async function reachable(home: Home, directory: string, account: Account): Promise<void> {
  const { exitCode } = await runAs(account, 'test', ['-w', directory]).catch(() => ({ exitCode: 1 }));
  if (exitCode === 0) return;
  throw new KilnError(
    'StateUnwritable',
    `PostgreSQL does not run as root, and its user (uid ${account.uid}) cannot reach ${home.root}.`,
    {
      target: home.root,
      hint: `Choose a --home below a directory that everybody may pass, as /var/lib; ${dirname(home.root)} or one above it is closed.`,
    },
  );
}

/** Where the server puts its socket. A running one says so itself: it may have been started with another TMPDIR. */
async function socketDirectory(home: Home): Promise<string> {
  const running = await postmaster(home);
  return running?.socketDirectory || join(home.sockets, 'postgres');
}

async function makeSocketDirectory(path: string, account: Account | undefined): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (account) await chown(path, account.uid, account.gid);
  await chmod(path, 0o700);
}

interface Postmaster {
  readonly pid: number;
  readonly socketDirectory: string;
}

/** The running server of this directory, by its postmaster.pid. A process of another kind that got its number does not count. */
async function postmaster(home: Home): Promise<Postmaster | undefined> {
  const text = await readFile(join(home.postgres, 'postmaster.pid'), 'utf8').catch(() => '');
  const lines = text.split('\n');
  const pid = Number(lines[0]);
  if (!(pid > 0)) return undefined;
  // The server's working directory is its data directory.
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
  if (cwd === undefined) return undefined;
  const [theirs, ours] = await Promise.all([stat(cwd), stat(home.postgres)].map(found => found.catch(() => undefined)));
  if (!theirs || !ours || theirs.ino !== ours.ino || theirs.dev !== ours.dev) return undefined;
  return { pid, socketDirectory: lines[4] ?? '' };
}

/**
 * After a crash of the computer the number in postmaster.pid may be some other process's, and PostgreSQL refuses to start when that
 * one belongs to the same user. It handles a number that nobody has by itself.
 */
async function removeForeignPid(home: Home): Promise<void> {
  const path = join(home.postgres, 'postmaster.pid');
  const pid = Number((await readFile(path, 'utf8').catch(() => '')).split('\n')[0]);
  if (!(pid > 0) || (await postmaster(home))) return;
  const exists = await stat(`/proc/${pid}`).catch(() => undefined);
  const age =
    Date.now() -
    (await stat(path).then(
      found => found.mtimeMs,
      () => Date.now(),
    ));
  // A server that another process starts at this moment may not have changed its directory yet.
  if (exists && age > 5_000) await rm(path, { force: true });
}

/** A fast shutdown: open transactions are rolled back, the data is clean. */
async function stop(home: Home, log: ServiceLog): Promise<void> {
  const running = await postmaster(home);
  if (!running) return;
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    process.kill(running.pid, signal);
    for (const deadline = Date.now() + STOP_DEADLINE; Date.now() < deadline; await sleep(10))
      if ((await postmaster(home))?.pid !== running.pid) {
        log('debug', 'PostgreSQL was stopped.', { pid: running.pid });
        return;
      }
  }
  log('error', 'PostgreSQL does not stop.', { pid: running.pid });
}
