/** Cloud images as distributions publish them: a list of checksums, and the disk beside it. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { convertDisk } from '../../disks/qemu-img.ts';
import { DEFAULT_LIMITS, inspectUntrusted } from '../../disks/untrusted.ts';
import type { AcquireOptions } from '../source.ts';
import { parseChecksums, publicationDay } from './checksums.ts';
import { download, publicUrl } from './download.ts';
import type { Origin } from './entries.ts';

/** What a publisher offers now. */
export interface Publication {
  readonly url: string;
  readonly digest: string;
  readonly sha256?: string;
  readonly sha512?: string;
  /** First two parts of the version, and the whole. */
  readonly series: string;
  readonly version: string;
}

const LIST_LIMIT = 4 * 1024 * 1024;
/** A compressed cloud image of more than this is none. */
const DISK_LIMIT = 64 * 1024 ** 3;

/**
 * What lists said last, by the ETag that their server knew them by. Triggers ask several times a minute whether there is something new: as long as there is not,
 * that costs a publisher one HEAD.
 */
const known = new Map<string, { readonly etag: string; readonly publication: Publication }>();
const HEAD_MS = 4_000;

/** Reads a list of checksums and finds the disk in it. Rejects with DownloadFailed, or SourceNotFound when the list lacks it. */
export async function readPublication(
  origin: Origin & { kind: 'published' },
  folder: string,
  options: AcquireOptions,
): Promise<Publication> {
  const key = JSON.stringify([origin.checksums, origin.file, origin.algorithm, origin.series]);
  const etag = await etagOf(origin.checksums, options.signal);
  const before = known.get(key);
  if (before && before.etag === etag) return before.publication;
  const publication = await fetchPublication(origin, folder, options);
  // Asked before: a list that was published between the two is read again next time.
  if (etag === undefined) known.delete(key);
  else known.set(key, { etag, publication });
  return publication;
}

/** Undefined where the server tells none, or cannot be asked: then the list itself is fetched, which says why. */
async function etagOf(url: string, signal?: AbortSignal): Promise<string | undefined> {
  const { username, password } = new URL(url);
  // fetch() takes no credentials in a URL.
  if (username !== '' || password !== '') return undefined;
  try {
    const patience = AbortSignal.any([AbortSignal.timeout(HEAD_MS), ...(signal ? [signal] : [])]);
    const response = await fetch(url, { method: 'HEAD', signal: patience });
    return response.ok ? (response.headers.get('etag') ?? undefined) : undefined;
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}

async function fetchPublication(
  origin: Origin & { kind: 'published' },
  folder: string,
  options: AcquireOptions,
): Promise<Publication> {
  await mkdir(folder, { recursive: true });
  const to = join(folder, `.list-${randomUUID()}`);
  try {
    const { lastModified } = await download(origin.checksums, {
      to,
      maxBytes: LIST_LIMIT,
      keepPart: false,
      ...(options.signal && { signal: options.signal }),
    });
    const list = parseChecksums(await readFile(to, 'utf8'), origin.algorithm);
    const digest = list.find(({ file }) => file === origin.file)?.digest;
    if (!digest)
      throw new KilnError('SourceNotFound', `${publicUrl(origin.checksums)} does not list ${origin.file}.`, {
        target: publicUrl(origin.checksums),
        hint: 'The publisher may have moved it: name a disk of your own in catalogue.json.',
      });
    const day = publicationDay(list, digest, lastModified ?? new Date());
    const version = origin.series.includes('.') ? `${origin.series}.${day}` : `${origin.series}.${day}.0`;
    const series = version.split('.').slice(0, 2).join('.');
    return { url: new URL(origin.file, origin.checksums).href, digest, [origin.algorithm]: digest, series, version };
  } finally {
    await rm(to, { force: true });
  }
}

export interface DiskDownload extends AcquireOptions {
  /** The entry's folder: partial downloads stay here and are resumed. */
  readonly folder: string;
  /** Private directory for what is on the way. */
  readonly directory: string;
  /** The qcow2 file to make. */
  readonly disk: string;
}

/** Downloads a disk, checks its digest, looks at it before QEMU may, and makes it a qcow2 file. */
export async function downloadDisk(
  what: { readonly url: string; readonly sha256?: string; readonly sha512?: string },
  request: DiskDownload,
): Promise<void> {
  const { onProgress } = request;
  const signal = request.signal && { signal: request.signal };
  const prefix = '.download-';
  const name = `${prefix}${(what.sha256 ?? what.sha512 ?? '').slice(0, 16)}`;
  // Parts of older publications are of no use any more.
  for (const other of await readdir(request.folder))
    if (other.startsWith(prefix) && !other.startsWith(name)) await rm(join(request.folder, other), { force: true });
  request.report?.(`Downloading ${publicUrl(what.url)}.`);
  const to = join(request.folder, name);
  const label = `downloading ${new URL(what.url).pathname.split('/').at(-1)}`;
  try {
    await download(what.url, {
      to,
      maxBytes: DISK_LIMIT,
      ...signal,
      ...(what.sha256 !== undefined && { sha256: what.sha256 }),
      ...(what.sha512 !== undefined && { sha512: what.sha512 }),
      ...(onProgress && {
        onProgress: (done: number, total: number | undefined) =>
          onProgress({ label, done, ...(total !== undefined && { total }), unit: 'bytes' }),
      }),
    });
    const { format } = await inspectUntrusted(to, DEFAULT_LIMITS, request.signal);
    if (format === 'qcow2') await rename(to, request.disk);
    else await convertDisk({ path: to, format }, { to: request.disk, format: 'qcow2', ...signal });
  } finally {
    await rm(to, { force: true });
  }
}
