/**
 * The region store: finished images as files. Each image has a directory of its own, `LOCATION/KIND/DIRECTORY/`, with the disk and its
 * `manifest.json`; a directory appears whole, by one rename, or not at all. Files are shared between locations where the file
 * system can (hard links), so they are read-only.
 */
import { createHash, randomUUID } from 'node:crypto';
import { chmod, link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { KilnError } from '../arm/errors.ts';
import { cloneOrCopy } from '../disks/copy.ts';
import { sync } from '../disks/durable.ts';

const MANIFEST = 'manifest.json';
const STAGING = '.staging-';
const OLD = '-old';
const GONE = '-gone';
const FILES = { qcow2: 'disk.qcow2', vhd: 'image.vhd' } as const;

const ManifestSchema = Type.Object({
  schema: Type.Literal(1),
  /** Resource id of the image or version; for a VHD, which is no resource, one of the run's. */
  id: Type.String(),
  kind: Type.Union([Type.Literal('ManagedImage'), Type.Literal('SharedImage'), Type.Literal('VHD')]),
  name: Type.String(),
  location: Type.String(),
  format: Type.Union([Type.Literal('qcow2'), Type.Literal('vhd')]),
  file: Type.String({ pattern: '^[A-Za-z0-9._-]+$' }),
  virtualSize: Type.Integer(),
  allocatedSize: Type.Integer(),
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  createdAt: Type.String(),
  runId: Type.String(),
  templateId: Type.String(),
  runOutputName: Type.String(),
  source: Type.Object({ name: Type.String(), sha256: Type.String(), exactVersion: Type.String() }),
  osType: Type.Union([Type.Literal('Linux'), Type.Literal('Windows')]),
  hyperVGeneration: Type.Union([Type.Literal('V1'), Type.Literal('V2')]),
  firmware: Type.Union([Type.Literal('bios'), Type.Literal('uefi')]),
  tags: Type.Record(Type.String(), Type.String()),
});

type StoredManifest = Static<typeof ManifestSchema>;

/** What stands in manifest.json, and where the disk is. Sizes are bytes. */
export type ImageManifest = Readonly<StoredManifest> & { readonly path: string };
/** What a distributor knows of an image before it is in the store. */
export type NewManifest = Omit<Readonly<StoredManifest>, 'schema' | 'file'>;

export interface ImageStore {
  /** Takes a finished disk into a location; `from` stays. An image with the same id there is replaced. */
  add(from: string, manifest: NewManifest): Promise<ImageManifest>;
  /** All images, newest first; directories without a valid manifest are not images. */
  list(): Promise<ImageManifest[]>;
  /** By resource id, name, run output's name, or the beginning of the run's id; the newest of several with one id or name. Errors: NotFound, UsageError. */
  find(name: string, location?: string): Promise<ImageManifest>;
  remove(image: Pick<ImageManifest, 'id' | 'kind' | 'location'>): Promise<void>;
  /** Removes what processes that are gone left half-made. */
  sweepStaged(): Promise<void>;
}

export async function openImageStore(root: string): Promise<ImageStore> {
  const directoryOf = ({ id, kind, location }: Pick<ImageManifest, 'id' | 'kind' | 'location'>) =>
    join(root, location, kind, createHash('sha256').update(id.toLowerCase()).digest('hex').slice(0, 32));

  async function list(): Promise<ImageManifest[]> {
    const found: ImageManifest[] = [];
    for (const location of await names(root))
      for (const kind of await names(join(root, location)))
        for (const directory of await names(join(root, location, kind))) {
          if (directory.startsWith('.')) continue;
          const image = await readManifest(join(root, location, kind, directory));
          if (image) found.push(image);
        }
    return found.sort((a, b) => b.createdAt.localeCompare(a.createdAt) || a.id.localeCompare(b.id));
  }

  return {
    list,

    async add(from, manifest) {
      const directory = directoryOf(manifest);
      const parent = join(directory, '..');
      await mkdir(parent, { recursive: true, mode: 0o700 });
      // The owner's pid tells a later sweep whether anybody still works on it.
      const staged = join(parent, `${STAGING}${process.pid}-${randomUUID()}`);
      await mkdir(staged, { mode: 0o700 });
      try {
        const file = FILES[manifest.format];
        await linkOrCopy(from, join(staged, file));
        const stored: StoredManifest = { schema: 1, ...manifest, file };
        await writeFile(join(staged, MANIFEST), `${JSON.stringify(stored, null, 2)}\n`, { mode: 0o600 });
        await sync(join(staged, MANIFEST));
        await sync(staged);
        const old = `${staged}${OLD}`;
        await rename(directory, old).catch(ignoreMissing);
        await rename(staged, directory);
        await sync(parent);
        await rm(old, { recursive: true, force: true });
        return { ...stored, path: join(directory, file) };
      } catch (error) {
        await rm(staged, { recursive: true, force: true });
        throw error;
      }
    },

    async find(name, location) {
      const wanted = name.toLowerCase();
      const all = (await list()).filter(image => location === undefined || image.location === location);
      const exact = all.filter(image =>
        [image.id, image.name, image.runOutputName].some(own => own.toLowerCase() === wanted),
      );
      if (exact[0]) return exact[0];
      const begun = /^[0-9a-f-]{4,36}$/.test(wanted) ? all.filter(image => image.runId.startsWith(wanted)) : [];
      if (begun.length === 1) return begun[0]!;
      if (begun.length === 0)
        throw new KilnError('NotFound', `No image is called ${name}.`, {
          hint: '`kiln images list` shows what there is.',
        });
      throw new KilnError(
        'UsageError',
        `Several images are of run ${name}: ${begun.map(image => image.name).join(', ')}.`,
        {
          hint: 'Name one of them.',
        },
      );
    },

    async remove(image) {
      const directory = directoryOf(image);
      // Out of sight first: what is half removed is no image.
      const gone = join(directory, '..', `${STAGING}${process.pid}-${randomUUID()}${GONE}`);
      await rename(directory, gone).catch(ignoreMissing);
      await rm(gone, { recursive: true, force: true });
    },

    async sweepStaged() {
      for (const location of await names(root))
        for (const kind of await names(join(root, location)))
          for (const directory of await names(join(root, location, kind))) {
            const pid = directory.startsWith(STAGING)
              ? Number(directory.slice(STAGING.length).split('-')[0])
              : undefined;
            if (pid === undefined || isRunning(pid)) continue;
            const path = join(root, location, kind, directory);
            // Its owner died between moving the old image away and putting the new one in its place.
            const old = directory.endsWith(OLD) ? await readManifest(path) : undefined;
            if (old) await rename(path, directoryOf(old)).catch(() => {});
            await rm(path, { recursive: true, force: true });
          }
    },
  };
}

async function readManifest(directory: string): Promise<ImageManifest | undefined> {
  try {
    const manifest: unknown = JSON.parse(await readFile(join(directory, MANIFEST), 'utf8'));
    if (!Value.Check(ManifestSchema, manifest)) return undefined;
    return { ...manifest, path: join(directory, basename(manifest.file)) };
  } catch {
    return undefined;
  }
}

/** A finished disk is never written again, so a second name for the same file is as good as a copy, and costs nothing. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await chmod(from, 0o444);
  try {
    await link(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EXDEV' && code !== 'EPERM' && code !== 'EMLINK') throw error;
    await cloneOrCopy(from, to);
    await chmod(to, 0o444);
  }
  await sync(to);
}

async function names(directory: string): Promise<string[]> {
  return await readdir(directory).catch(error => {
    ignoreMissing(error);
    return [];
  });
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
