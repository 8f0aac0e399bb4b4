/** Fetches a URL into a file: resumes, verifies, never waits for ever, and leaves nothing half-written under the final name. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { cloneOrCopy } from '../../disks/copy.ts';
import { moveDurably, sync } from '../../disks/durable.ts';
import { hashFile } from '../../disks/hash.ts';
import { asResponse, outwardFetch } from './outward-fetch.ts';
import { askOwn, isOwn, type OwnDoor } from './own-door.ts';

export interface DownloadOptions {
  /** The file to make. While bytes move it is called `TO.part`, which a later call resumes. */
  readonly to: string;
  /** Expected digests, hex in any case. */
  readonly sha256?: string;
  readonly sha512?: string;
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
  /** Bytes so far, and of how many where the server says so. */
  readonly onProgress?: (done: number, total: number | undefined) => void;
  /** Before each attempt to fetch it: the first is 1. */
  readonly onAttempt?: (attempt: number, most: number) => void;
  /** Milliseconds without a byte after which the server counts as silent. Default: 30 s. */
  readonly idleTimeout?: number;
  /** Whether `file:` URLs are allowed: never for a URL that came over the network. */
  readonly allowFile?: boolean;
  /** Whether this host's loopback and link-local addresses may be fetched from: never for a URL of the API. Default: true. */
  readonly allowLocal?: boolean;
  /** The server's own door, from which may be fetched what it gives to everybody, and to the principal `as` (an object id). */
  readonly own?: OwnDoor | undefined;
  readonly as?: string | undefined;
  /** Whether TO.part is kept when the download fails, for the next call to go on with. Default: true. */
  readonly keepPart?: boolean;
}

export interface Downloaded {
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
  /** When the server says that the file was last changed. */
  readonly lastModified?: Date;
}

const REDIRECTS = 5;
const ATTEMPTS = 4;

/** A failure that another attempt may not meet: a broken connection, a server in trouble. */
class Interrupted extends Error {}

/**
 * Downloads `url` (untrusted: http, https, or file where allowed). Rejects with DownloadFailed, ChecksumMismatch, DiskFull or the
 * signal's reason. Messages name the URL without user name, password and query, where signatures (SAS) stand.
 */
export async function download(url: string, options: DownloadOptions): Promise<Downloaded> {
  const part = `${options.to}.part`;
  const parsed = parseUrl(url, options.allowFile ?? false);
  try {
    let lastModified: Date | undefined;
    if (parsed.protocol === 'file:') await copyLocal(parsed, part, options);
    else lastModified = await fetchWithRetries(parsed, part, options);
    const { size } = await stat(part);
    const sha256 = await verify(url, part, options);
    await sync(part);
    await moveDurably(part, options.to);
    await rm(`${part}.json`, { force: true });
    return { path: options.to, sha256, size, ...(lastModified && { lastModified }) };
  } catch (error) {
    if (options.keepPart === false) await discard(part);
    options.signal?.throwIfAborted();
    const known = asKilnError(error);
    if (known.code !== 'InternalError') throw known;
    throw failed(url, known.message, error);
  }
}

/** A URL for messages and logs: without credentials, query and fragment. */
export function publicUrl(url: string | URL): string {
  try {
    const { protocol, host, pathname } = new URL(url);
    return `${protocol}//${host}${pathname}`;
  } catch {
    return '(not a URL)';
  }
}

function parseUrl(url: string, allowFile: boolean): URL {
  if (!URL.canParse(url)) throw failed(url, 'it is not a URL');
  const parsed = new URL(url);
  if (parsed.protocol === 'http:' || parsed.protocol === 'https:' || (parsed.protocol === 'file:' && allowFile))
    return parsed;
  throw failed(url, `${parsed.protocol} URLs are not allowed here`);
}

async function copyLocal(url: URL, part: string, options: DownloadOptions): Promise<void> {
  const path = fileURLToPath(url);
  const stats = await stat(path).catch(error => {
    throw failed(url, (error as Error).message, error);
  });
  if (!stats.isFile()) throw failed(url, 'it is not a file');
  if (stats.size > (options.maxBytes ?? Number.POSITIVE_INFINITY)) throw tooLarge(url, options.maxBytes!);
  await cloneOrCopy(path, part, options.signal && { signal: options.signal });
  options.onProgress?.(stats.size, stats.size);
}

async function fetchWithRetries(url: URL, part: string, options: DownloadOptions): Promise<Date | undefined> {
  for (let attempt = 1; ; attempt++) {
    options.onAttempt?.(attempt, ATTEMPTS);
    try {
      return await fetchOnce(url, part, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof Interrupted)) throw error;
      if (attempt === ATTEMPTS) throw failed(url, `${error.message} (tried ${ATTEMPTS} times)`, error);
      await sleep(250 * 4 ** (attempt - 1), undefined, options.signal && { signal: options.signal });
    }
  }
}

/** What the part file is a part of: only with the server's word that it is still the same thing may it be continued. */
interface Validator {
  readonly url: string;
  readonly validator: string;
}

async function fetchOnce(url: URL, part: string, options: DownloadOptions): Promise<Date | undefined> {
  const idle = new AbortController();
  const idleTimeout = options.idleTimeout ?? 30_000;
  const expire = () => idle.abort(failed(url, `the server sent nothing for ${idleTimeout / 1000} s`));
  let timer = setTimeout(expire, idleTimeout);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(expire, idleTimeout);
  };
  const signal = options.signal ? AbortSignal.any([options.signal, idle.signal]) : idle.signal;
  try {
    const known = await readValidator(part, url);
    const offset =
      known === undefined
        ? 0
        : await stat(part)
            .then(stats => stats.size)
            .catch(() => 0);
    // Compressed on the way, a range would count other bytes than the file has.
    const headers: Record<string, string> = { 'accept-encoding': 'identity', 'user-agent': 'kiln' };
    if (offset > 0) Object.assign(headers, { range: `bytes=${offset}-`, 'if-range': known });
    const response = await follow(url, headers, signal, options);
    alive();
    if (response.status === 416) {
      await discard(part);
      throw new Interrupted('the server no longer has the part that was missing');
    }
    await refuseStatus(url, response);
    const resumed = response.status === 206;
    if (resumed && !response.headers.get('content-range')?.startsWith(`bytes ${offset}-`)) {
      await discard(part);
      throw new Interrupted('the server sent another part than the one asked for');
    }
    const length = Number(response.headers.get('content-length') ?? Number.NaN);
    const total = Number.isFinite(length) ? length + (resumed ? offset : 0) : undefined;
    if (total !== undefined && total > (options.maxBytes ?? Number.POSITIVE_INFINITY))
      throw tooLarge(url, options.maxBytes!);
    if (!resumed) await writeValidator(part, url, response.headers);
    await receive(response, part, { ...options, url, offset: resumed ? offset : 0, total, alive });
    const modified = new Date(response.headers.get('last-modified') ?? Number.NaN);
    return Number.isNaN(modified.getTime()) ? undefined : modified;
  } catch (error) {
    if (idle.signal.aborted) throw idle.signal.reason;
    if (error instanceof KilnError || error instanceof Interrupted || options.signal?.aborted) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    // Trouble with our own file, not with the network.
    if (['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'ENOENT', 'EISDIR'].includes(code)) throw error;
    throw new Interrupted(causeOf(error), { cause: error });
  } finally {
    clearTimeout(timer);
    // Closes the connection of an answer that was not read to its end.
    idle.abort();
  }
}

interface Receiving extends DownloadOptions {
  readonly url: URL;
  readonly offset: number;
  readonly total: number | undefined;
  readonly alive: () => void;
}

async function receive(response: Response, part: string, receiving: Receiving): Promise<void> {
  const { url, total, maxBytes = Number.POSITIVE_INFINITY } = receiving;
  let done = receiving.offset;
  const file = createWriteStream(part, { flags: done > 0 ? 'a' : 'w' });
  const closed = new Promise<void>((resolve, reject) => file.once('close', resolve).once('error', reject));
  // Awaited below; until then an error must not count as unhandled.
  closed.catch(() => {});
  try {
    for await (const chunk of response.body ?? []) {
      receiving.alive();
      done += chunk.byteLength;
      if (done > maxBytes) throw tooLarge(url, maxBytes);
      if (!file.write(chunk)) await Promise.race([once(file, 'drain'), closed]);
      receiving.onProgress?.(done, total);
    }
  } finally {
    file.end();
    await closed;
  }
  if (total !== undefined && done !== total) throw new Interrupted(`only ${done} of ${total} bytes came`);
}

/** Follows redirects itself: few, and never from https to http. */
async function follow(
  url: URL,
  headers: Record<string, string>,
  signal: AbortSignal,
  { allowLocal = true, own, as }: Pick<DownloadOptions, 'allowLocal' | 'own' | 'as'>,
): Promise<Response> {
  let at = url;
  for (let hop = 0; hop <= REDIRECTS; hop++) {
    // fetch() refuses URLs with credentials in them.
    const { username, password } = at;
    const plain = new URL(at.href);
    plain.username = '';
    plain.password = '';
    const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    const authorization =
      username || password ? { authorization: `Basic ${Buffer.from(login).toString('base64')}` } : {};
    const init = { signal, headers: { ...headers, ...authorization } };
    const get = () => (allowLocal ? fetch(plain, { ...init, redirect: 'manual' }) : outwardFetch(plain, init));
    const response = own && isOwn(at, own) ? asResponse(await askOwn(plain, init, own, as)) : await get();
    const location = response.headers.get('location');
    if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return response;
    await response.body?.cancel();
    if (!URL.canParse(location, at.href)) throw failed(url, 'it redirects to something that is no URL');
    const next = new URL(location, at.href);
    if (next.protocol !== 'https:' && !(next.protocol === 'http:' && at.protocol === 'http:'))
      throw failed(url, `it redirects from ${at.protocol} to ${next.protocol}, which is not safe`);
    at = next;
  }
  throw failed(url, `it redirects more than ${REDIRECTS} times`);
}

async function refuseStatus(url: URL, response: Response): Promise<void> {
  if (response.ok) return;
  await response.body?.cancel();
  const status = `the server answered ${response.status} ${response.statusText}`.trim();
  if (response.status >= 500 || response.status === 429 || response.status === 408) throw new Interrupted(status);
  throw failed(url, status);
}

async function verify(url: string, path: string, options: DownloadOptions): Promise<string> {
  const signal = options.signal && { signal: options.signal };
  const sha256 = await hashFile('sha256', path, signal);
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const expected = options[algorithm]?.toLowerCase();
    if (expected === undefined) continue;
    const found = algorithm === 'sha256' ? sha256 : await hashFile(algorithm, path, signal);
    if (found === expected) continue;
    await discard(path);
    throw new KilnError(
      'ChecksumMismatch',
      `${publicUrl(url)} is not what its checksum says: ${algorithm.toUpperCase()} is ${found}, expected ${expected}.`,
      { target: publicUrl(url), hint: 'Check the URL and the checksum; the file may have been replaced since.' },
    );
  }
  return sha256;
}

async function readValidator(part: string, url: URL): Promise<string | undefined> {
  try {
    const saved = JSON.parse(await readFile(`${part}.json`, 'utf8')) as Partial<Validator>;
    return saved.url === publicUrl(url) && typeof saved.validator === 'string' ? saved.validator : undefined;
  } catch {
    return undefined;
  }
}

async function writeValidator(part: string, url: URL, headers: Headers): Promise<void> {
  await discard(part);
  const etag = headers.get('etag');
  // A weak tag says "as good as the same", which is not enough to glue bytes together.
  const validator = etag?.startsWith('"') ? etag : headers.get('last-modified');
  if (validator)
    await writeFile(`${part}.json`, JSON.stringify({ url: publicUrl(url), validator } satisfies Validator));
}

async function discard(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(`${part}.json`, { force: true });
}

function failed(url: string | URL, why: string, cause?: unknown): KilnError {
  const name = publicUrl(url);
  return new KilnError('DownloadFailed', `${name} cannot be fetched: ${why}.`, {
    target: name,
    ...(cause !== undefined && { cause }),
  });
}

function tooLarge(url: URL, maxBytes: number): KilnError {
  return failed(url, `it is larger than ${maxBytes} bytes`);
}

/** fetch() hides what went wrong behind "fetch failed". */
function causeOf(error: unknown): string {
  const { message, cause } = error as Error;
  const inner = cause as (NodeJS.ErrnoException & { errors?: Error[] }) | undefined;
  return inner?.errors?.[0]?.message || inner?.message || inner?.code || message;
}
