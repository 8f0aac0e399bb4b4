/** Brings a database to this version's tables; a database of a newer version is refused. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, type Migration, Migrator, sql } from 'kysely';
import type pg from 'pg';
import { KilnError } from '../arm/errors.ts';
import * as foundation from './migrations/0001-foundation.ts';
import * as frontDoor from './migrations/0002-front-door.ts';
import * as blobs from './migrations/0003-blobs.ts';
import * as storageKeys from './migrations/0004-storage-keys.ts';
import * as galleries from './migrations/0005-galleries.ts';
import * as locks from './migrations/0007-locks.ts';
import * as unmodelled from './migrations/0008-unmodelled.ts';
import * as certificates from './migrations/0009-certificates.ts';
import * as keptMachines from './migrations/0010-kept-machines.ts';
import * as fsverity from './migrations/0011-fsverity.ts';
import type { Schema } from './schema.ts';

export const SCHEMA_NAME = 'kiln';

/** In order, and never renamed: their names are in the users' databases. */
const MIGRATIONS: Readonly<Record<string, Migration>> = Object.freeze({
  '0001-foundation': foundation,
  '0002-front-door': frontDoor,
  '0003-blobs': blobs,
  '0004-storage-keys': storageKeys,
  '0005-galleries': galleries,
  '0007-locks': locks,
  '0008-unmodelled': unmodelled,
  '0009-certificates': certificates,
  '0010-kept-machines': keptMachines,
  '0011-fsverity': fsverity,
});

const LOCK_DEADLINE = 60_000;

/**
 * One query when there is nothing to do. Errors: StateTooNew; DatabaseUnavailable when another process migrates for a minute.
 */
export async function migrate(database: Kysely<Schema>, connect: () => Promise<pg.Client>): Promise<void> {
  if (await isCurrent(database)) return;
  await withSetupLock(connect, async () => {
    if (await isCurrent(database)) return;
    const migrator = new Migrator({
      db: database,
      provider: { getMigrations: async () => ({ ...MIGRATIONS }) },
      migrationTableSchema: SCHEMA_NAME,
    });
    const { error } = await migrator.migrateToLatest();
    if (error) throw error;
  });
}

/**
 * One process at a time sets tables up. Whoever waits asks again and again: a session that *waits* for an advisory lock holds a
 * snapshot, and an index that is built concurrently under that lock waits for it, for ever.
 */
export async function withSetupLock(connect: () => Promise<pg.Client>, work: () => Promise<void>): Promise<void> {
  const client = await connect();
  try {
    for (const deadline = Date.now() + LOCK_DEADLINE; ; await sleep(50)) {
      const { rows } = await client.query("select pg_try_advisory_lock(hashtextextended('kiln setup', 0)) as held");
      if (rows[0].held) break;
      if (Date.now() > deadline)
        throw new KilnError('DatabaseUnavailable', 'Another process has been setting the database up for a minute.');
    }
    await work();
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function isCurrent(database: Kysely<Schema>): Promise<boolean> {
  const known = Object.keys(MIGRATIONS);
  let applied: string[];
  try {
    const found = await sql<{ name: string }>`select name from ${sql.table(`${SCHEMA_NAME}.kysely_migration`)}`.execute(
      database,
    );
    applied = found.rows.map(row => row.name);
  } catch (error) {
    // No such table: a new database.
    if ((error as { code?: string }).code === '42P01') return false;
    throw error;
  }
  const unknown = applied.filter(name => !known.includes(name)).sort();
  if (unknown.length > 0)
    throw new KilnError('StateTooNew', `The database was written by a newer Kiln (it has ${unknown.join(', ')}).`, {
      hint: 'Use that version of Kiln, or another --home.',
    });
  return applied.length === known.length;
}
