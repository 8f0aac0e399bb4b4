/**
 * The layer store: what phases made, under the keys of their inputs, so that a build that comes to the same key takes it instead of making it. A layer is a
 * directory, CACHE/layers/KEY/{layer.json, files}, there complete or not at all, also after a kill. Nothing is flushed: that
 * would hold up the disk that the build itself writes to, and what a power cut has left incomplete is known by its checksums. Several processes and homes may share it.
 * Who takes a layer gets names of its own for the files (hard links): what is taken out of the store meanwhile stays with those who have it.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, link, mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { checksumFile } from '../../disks/checksum.ts';
import { cloneOrCopy } from '../../disks/copy.ts';
import { type LockOptions, lockFile } from '../../disks/file-lock.ts';
import { isCutOff, isKey, type LayerRecord, RECORD, readRecord } from './record.ts';
import { isAbandoned, stagedName } from './staged.ts';

/** A layer that is to be kept. */
export interface NewLayer
  extends Pick<LayerRecord, 'key' | 'id' | 'name' | 'runId' | 'seconds' | 'ranAt' | 'detail' | 'summary' | 'facts'> {
  readonly parent: string | undefined;
  /** Absolute paths by the name that each gets. The files stay where they are, and never change again. */
  readonly files: Readonly<Record<string, string>>;
  /** Of files whose checksum is known already, by name: these are not read. */
  readonly checksums?: Readonly<Record<string, string | undefined>>;
}

export interface StoredLayer extends LayerRecord {
  /** Bytes on disk. */
  readonly allocated: number;
  readonly usedAt: Date;
}

export interface TakeOptions {
  /** Only these of the layer's files. */
  readonly names?: readonly string[];
  /** Files that somebody else reads, by name: only where he finds something else than was kept are they read here. */
  readonly read?: Readonly<Record<string, Promise<boolean>>>;
  readonly signal?: AbortSignal;
}

export interface LayerStore {
  readonly directory: string;
  /** False where it can only be read: `list` and `look` work, and find nothing where there is no store. */
  readonly writable: boolean;
  /** What is known of a layer; undefined where there is none. Its files are not looked at. */
  look(key: string): Promise<LayerRecord | undefined>;
  /**
   * Gives the directory a name for each file. They are checked meanwhile: `damage` is what is wrong with a damaged layer, which is removed then, with the names;
   * undefined when all is well. Errors, of both: the file system's; the signal's reason.
   */
  take(
    record: LayerRecord,
    directory: string,
    options?: TakeOptions,
  ): Promise<{ readonly damage: Promise<string | undefined> }>;
  /** Keeps a layer, in the place of one that is there. Errors: DiskFull and others of the file system. */
  keep(layer: NewLayer, signal?: AbortSignal): Promise<void>;
  /** One at a time makes a layer of this key, among all processes of this host. */
  lock(key: string, options?: LockOptions): Promise<AsyncDisposable>;
  list(): Promise<StoredLayer[]>;
  /** Removing what is gone already is no error. */
  remove(key: string): Promise<void>;
  /** Removes what processes that died have left half-made. */
  sweep(): Promise<void>;
}

const REMOVED = '.removed-';
const MACHINE = /^(layer|memory|pieces|devices)-/;
/** A lock that was last taken so long ago (ms) is for a layer that nobody makes. */
const FORGOTTEN = 7 * 24 * 3600 * 1000;

/** @param cache the directory of all caches (home.cache) */
export async function openLayerStore(cache: string): Promise<LayerStore> {
  const directory = join(cache, 'layers');
  const locks = join(directory, '.locks');
  // Disks that steps made may hold what is nobody else's business.
  const writable = await canWrite(locks);
  await requireOwn(directory, writable);
  const place = (key: string) => join(directory, key);
  const store: LayerStore = {
    directory,
    writable,
    look: key => readRecord(place(key), key),
    async take(record, into, { names, read, signal } = {}) {
      const files = record.files.filter(({ name }) => names?.includes(name) ?? true);
      const withdraw = async (error: unknown): Promise<string> => {
        for (const { name } of files) await rm(join(into, name), { force: true });
        const gone = (error as NodeJS.ErrnoException).code === 'ENOENT';
        if (!gone && !(error instanceof Damage)) throw error;
        // Another one may have come in its place, with files of its own.
        if ((await store.look(record.key))?.id !== record.id) return 'it was replaced or removed meanwhile';
        await store.remove(record.key);
        return gone ? 'a file is missing' : (error as Damage).message;
      };
      const check = async () => {
        for (const { name, checksum } of files)
          if (!(await read?.[name]) && (await checksumFile(join(into, name), signal)) !== checksum)
            throw new Damage(`${name} has another content`);
        const now = new Date();
        await utimes(join(place(record.key), RECORD), now, now).catch(() => {});
      };
      try {
        for (const { name, size } of files) {
          const to = join(into, name);
          await linkOrCopy(join(place(record.key), name), to, signal);
          if ((await stat(to)).size !== size) throw new Damage(`${name} has another size`);
        }
      } catch (error) {
        return { damage: Promise.resolve(await withdraw(error)) };
      }
      const damage = check().then(() => undefined, withdraw);
      damage.catch(() => {});
      return { damage };
    },
    async keep({ files, checksums, parent, ...layer }, signal) {
      const staged = join(directory, stagedName());
      await mkdir(staged, { mode: 0o700 });
      try {
        const kept: LayerRecord['files'][number][] = [];
        for (const [name, path] of Object.entries(files)) {
          signal?.throwIfAborted();
          const to = join(staged, name);
          await linkOrCopy(path, to, signal);
          // Runs have names for it in directories that other users' processes may pass through. Published images have their modes from the region store.
          await chmod(to, MACHINE.test(name) ? 0o400 : 0o444);
          const { size } = await stat(to);
          const checksum = checksums?.[name] ?? (await checksumFile(to, signal));
          kept.push({ name, size, checksum });
        }
        const record: LayerRecord = {
          ...{ schema: 1, ...layer, ...(parent !== undefined && { parent }) },
          ...{ madeAt: new Date().toISOString(), files: kept },
        };
        await writeFile(join(staged, RECORD), `${JSON.stringify(record, null, 2)}\n`);
        // Two that replace one another at once: the one whose rename fails makes room again.
        for (let attempt = 1; ; attempt++) {
          await store.remove(layer.key);
          try {
            await rename(staged, place(layer.key));
            break;
          } catch (error) {
            if (attempt === 5 || !['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? ''))
              throw error;
          }
        }
      } catch (error) {
        await rm(staged, { recursive: true, force: true });
        throw error;
      }
    },
    async lock(key, options) {
      const path = join(locks, key);
      const held = await lockFile(path, options);
      const now = new Date();
      await utimes(path, now, now).catch(() => {});
      return held;
    },
    async list() {
      const found: StoredLayer[] = [];
      for (const name of await readdir(directory).catch(nothing)) {
        const record = await readRecord(place(name), name);
        if (!record) continue;
        const sizes = await Promise.all(record.files.map(file => allocated(join(place(name), file.name))));
        const used = await stat(join(place(name), RECORD)).catch(() => undefined);
        if (used) found.push({ ...record, allocated: sizes.reduce((a, b) => a + b, 0), usedAt: used.mtime });
      }
      return found;
    },
    async remove(key) {
      const gone = join(directory, `${REMOVED}${randomUUID().slice(0, 8)}`);
      const moved = await rename(place(key), gone).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return false;
          throw error;
        },
      );
      if (moved) await rm(gone, { recursive: true, force: true });
    },
    async sweep() {
      for (const name of await readdir(directory))
        if (
          name.startsWith(REMOVED) ||
          (await isAbandoned(directory, name)) ||
          (isKey(name) && (await isCutOff(place(name))))
        )
          await rm(join(directory, name), { recursive: true, force: true });
      // Who holds or awaits one that goes all the same makes a layer that somebody else makes too: that costs time and nothing else.
      for (const name of await readdir(locks)) {
        const taken = await stat(join(locks, name)).catch(() => undefined);
        if (taken && Date.now() - taken.mtimeMs > FORGOTTEN) await rm(join(locks, name), { force: true });
      }
    },
  };
  return store;
}

class Damage extends Error {}

/** Makes the directory where it is missing. */
async function canWrite(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await access(directory, constants.W_OK);
    return true;
  } catch (error) {
    // ENOENT is what Node says of one that it shall make with its parents on a read-only file system.
    if (!['EROFS', 'EACCES', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    return false;
  }
}

function nothing(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return [];
  throw error;
}

/** Who can write there decides what is in the images. Errors: StateUnwritable. */
async function requireOwn(directory: string, writable: boolean): Promise<void> {
  const found = await stat(directory).catch(() => undefined);
  if (!found) return;
  const { uid, mode } = found;
  if (process.getuid && uid !== process.getuid())
    throw new KilnError('StateUnwritable', `${directory} belongs to another user, who could put anything into it.`, {
      target: directory,
      hint: 'Choose a KILN_CACHE of your own, or remove that directory: it holds nothing that cannot be made again.',
    });
  if (writable && (mode & 0o077) !== 0) await chmod(directory, 0o700);
}

async function allocated(path: string): Promise<number> {
  return ((await stat(path).catch(() => undefined))?.blocks ?? 0) * 512;
}

async function linkOrCopy(from: string, to: string, signal?: AbortSignal): Promise<void> {
  try {
    await rm(to, { force: true });
    await link(from, to);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP'].includes(code)) throw error;
    await cloneOrCopy(from, to, signal ? { signal } : {});
  }
}
