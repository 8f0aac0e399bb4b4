/**
 * The store of containers and blobs. Names, properties and block lists are rows; bytes are files that are flushed before a row names them, and a row is committed
 * before anybody is told of it: what was acknowledged is there after a kill, and nothing half-written is ever seen. What is written is never changed in place: a
 * page blob too is a list of files, and a write to it a new one.
 */
import type { Kysely } from 'kysely';
import type { Schema } from '../database/schema.ts';
import type { ServiceLog } from '../database/service-log.ts';
import type { Home } from '../home.ts';
import { type BlobFiles, openBlobFiles, sweepBlobFiles } from './files.ts';
import { collectGarbage, dropOldBlocks, namedFiles } from './garbage.ts';
import { Readers } from './readers.ts';

export { removeAccountData } from './account-data.ts';

export interface BlobStore {
  readonly database: Kysely<Schema>;
  readonly files: BlobFiles;
  readonly readers: Readers;
  /** Removes files that no row names any more, but for those that are being read; soon, and not before this returns. */
  collect(): void;
  /** From now on looks for such files by itself, those of dead processes at once: for the one process that serves the state directory. */
  tend(options: { readonly isAlive: (owner: string) => Promise<boolean> }): Promise<void>;
  /** Waits for what is being removed. */
  close(): Promise<void>;
}

export interface BlobStoreOptions {
  readonly database: Kysely<Schema>;
  readonly home: Pick<Home, 'blobs'>;
  /** What this process is called: its worker's id. */
  readonly owner: string;
  readonly log: ServiceLog;
  /** How often it looks for files that others' rows have left, and for blocks that are too old (ms). */
  readonly every?: number;
}

const EVERY = 15_000;

export function openBlobStore({ database, home, owner, log, every = EVERY }: BlobStoreOptions): BlobStore {
  const files = openBlobFiles(home.blobs, owner);
  const readers = new Readers(() => {
    if (left) collect();
  });
  let timer: NodeJS.Timeout | undefined;
  let collecting: Promise<void> | undefined;
  let again = false;
  /** Whether files stay that were being read. */
  let left = false;
  let closed = false;

  function collect(): void {
    if (closed) return;
    if (collecting) {
      again = true;
      return;
    }
    collecting = collectGarbage({ database, files, readers })
      .then(some => {
        left = some;
      })
      .catch(error => log('error', 'Files of blobs cannot be removed.', { error: String(error) }))
      .finally(() => {
        collecting = undefined;
        if (again) {
          again = false;
          collect();
        }
      });
  }

  return {
    database,
    files,
    readers,
    collect,
    async tend({ isAlive }) {
      const removed = await sweepBlobFiles({
        directory: home.blobs,
        isAlive: async name => name === owner || (await isAlive(name)),
        named: names => namedFiles(database, names),
      });
      if (removed > 0) log('info', 'Files of blobs that were never finished are removed.', { files: removed });
      await dropOldBlocks(database);
      collect();
      timer ??= setInterval(() => {
        dropOldBlocks(database).catch(error =>
          log('error', 'Blocks that nobody commits cannot be removed.', { error: String(error) }),
        );
        collect();
      }, every).unref();
    },
    async close() {
      clearInterval(timer);
      closed = true;
      await collecting;
    },
  };
}
