/** Whose PostgreSQL it is: the server refuses to run as root, so there it runs as a system user of its own. */
import { stat } from 'node:fs/promises';
import { KilnError } from '../arm/errors.ts';
import { type Finished, run } from '../processes/process.ts';

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** Nothing of the caller's environment (PGDATA, PGPORT, LC_ALL …) may change what the server does. */
export const SERVER_ENVIRONMENT = Object.freeze({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', TZ: 'UTC' });

/**
 * The account that owns the data directory, or is to own it. undefined: the one of this process.
 * Errors: StateUnwritable when the data belongs to somebody else; DatabaseUnavailable when root finds no account.
 */
export async function serverAccount(dataDirectory: string): Promise<Account | undefined> {
  const found = await stat(dataDirectory).catch(() => undefined);
  const uid = process.getuid?.();
  if (uid !== 0) {
    if (found === undefined || found.uid === uid) return undefined;
    throw new KilnError('StateUnwritable', `${dataDirectory} belongs to another user (uid ${found.uid}).`, {
      target: dataDirectory,
      hint: 'Run Kiln as root as before (sudo), or choose another --home.',
    });
  }
  return found ? { uid: found.uid, gid: found.gid } : await systemAccount();
}

/**
 * `kiln`, made when missing; where no user can be made, the distribution's `postgres`, or at last `nobody`, which other
 * services may share.
 */
async function systemAccount(): Promise<Account> {
  const existing = await account('kiln');
  if (existing) return existing;
  const args = ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent'];
  await run('useradd', [...args, '--shell', '/usr/sbin/nologin', 'kiln']).catch(() => undefined);
  for (const name of ['kiln', 'postgres', 'nobody']) {
    const candidate = await account(name);
    if (candidate) return candidate;
  }
  throw new KilnError('DatabaseUnavailable', 'PostgreSQL does not run as root, and there is no other user for it.', {
    hint: 'Make one: useradd --system --no-create-home kiln',
  });
}

async function account(name: string): Promise<Account | undefined> {
  try {
    const [uid, gid] = await Promise.all(['-u', '-g'].map(async flag => (await run('id', [flag, name])).stdout.trim()));
    return { uid: Number(uid), gid: Number(gid) };
  } catch {
    return undefined;
  }
}

/** Runs a program to its end as the account, with none of root's groups. Errors as those of `run`. */
export function runAs(account: Account | undefined, program: string, args: readonly string[]): Promise<Finished> {
  const options = { env: { ...SERVER_ENVIRONMENT }, cwd: '/' };
  if (!account) return run(program, args, options);
  const become = ['--reuid', `${account.uid}`, '--regid', `${account.gid}`, '--clear-groups', '--'];
  return run('setpriv', [...become, program, ...args], options);
}
