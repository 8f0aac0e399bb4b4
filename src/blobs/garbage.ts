/** Removing files that rows have named and name no more. */
import { type Kysely, sql } from 'kysely';
import type { Schema } from '../database/schema.ts';
import type { BlobFiles } from './files.ts';
import type { Readers } from './readers.ts';

const BATCH = 500;
/** As in Azure: a block that nobody commits goes after a week. */
const BLOCK_DAYS = 7;

/** Of these files, those that a row names. */
export async function namedFiles(database: Kysely<Schema>, files: readonly string[]): Promise<Set<string>> {
  if (files.length === 0) return new Set();
  const { rows } = await sql<{ file: string }>`
    select f.file from unnest(${files}::text[]) as f (file)
    where exists (select from blob_extent e where e.file = f.file)
       or exists (select from blob_block b where b.file = f.file)`.execute(database);
  return new Set(rows.map(({ file }) => file));
}

/** A file goes before the row that says so: after a kill the row is still there, and the file may be gone already. @returns whether some stay that are read. */
export async function collectGarbage(store: {
  readonly database: Kysely<Schema>;
  readonly files: BlobFiles;
  readonly readers: Readers;
}): Promise<boolean> {
  const { database, files, readers } = store;
  let left = false;
  for (let after = ''; ; ) {
    const last = await database.transaction().execute(async trx => {
      const rows = await trx
        .selectFrom('blob_garbage')
        .select('file')
        .where('file', '>', after)
        .orderBy('file')
        .limit(BATCH)
        .forUpdate()
        .skipLocked()
        .execute();
      const found = rows.map(({ file }) => file);
      if (found.length === 0) return undefined;
      // With the rows' locks held: whoever takes a file's last name away meanwhile waits, and writes it down again.
      const named = await namedFiles(trx, found);
      await readers.settled();
      const done = found.filter(file => named.has(file) || !readers.has(file));
      left ||= done.length < found.length;
      await files.discard(done.filter(file => !named.has(file)));
      if (done.length > 0) await trx.deleteFrom('blob_garbage').where('file', 'in', done).execute();
      return found.at(-1);
    });
    if (last === undefined) return left;
    after = last;
  }
}

export async function dropOldBlocks(database: Kysely<Schema>): Promise<void> {
  const since = new Date(Date.now() - BLOCK_DAYS * 86_400_000);
  await database.deleteFrom('blob_block').where('staged_at', '<', since).execute();
}
