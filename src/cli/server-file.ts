/** HOME/server.json: where the server of a state directory listens, for the commands that talk to it. What counts is whether it answers. */
import { rm } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import { readIfThere, writePrivate } from '../disks/private-file.ts';
import type { Home } from '../home.ts';
import { alive, ownRecord } from '../machines/qemu/process-record.ts';

export interface ServerFile {
  /** `https://127.0.0.1:8443`. */
  readonly origin: string;
  readonly pid: number;
  /** Of the process: numbers are used again. */
  readonly startTime: string;
  /** File with the certificate of the authority that clients trust. */
  readonly ca: string;
  readonly startedAt: string;
}

/** Milliseconds that an answer may take. */
const PATIENCE = 15_000;

const pathOf = (home: Home) => join(home.root, 'server.json');

/** Of this process. Errors: ServerRunning. */
export async function writeServerFile(
  home: Home,
  file: Pick<ServerFile, 'origin' | 'ca' | 'startedAt'>,
): Promise<void> {
  await requireNoServer(home);
  await writePrivate(pathOf(home), `${JSON.stringify({ ...file, ...ownRecord() }, null, 2)}\n`);
}

/** One server a directory: with two, commands would speak to either. What a killed one left does not count. Errors: ServerRunning. */
export async function requireNoServer(home: Home): Promise<void> {
  const other = await readServerFile(home);
  if (!other || other.pid === process.pid || !alive(other)) return;
  throw new KilnError(
    'ServerRunning',
    `A server runs on the state directory ${home.root} already: process ${other.pid}, at ${other.origin}.`,
    { hint: `Use that one; or end it: kill ${other.pid}; or give this one a directory of its own with --home.` },
  );
}

/** At the end of a server; one that took its place meanwhile keeps its own. */
export async function removeServerFile(home: Home): Promise<void> {
  if ((await readServerFile(home))?.pid === process.pid) await rm(pathOf(home), { force: true });
}

/** undefined where none is, or none that can be read. */
export async function readServerFile(home: Home): Promise<ServerFile | undefined> {
  const text = await readIfThere(pathOf(home));
  try {
    const file = JSON.parse(text ?? '') as ServerFile;
    const { origin, ca, startTime } = file;
    return [origin, ca, startTime].every(value => typeof value === 'string') ? file : undefined;
  } catch {
    return undefined;
  }
}

export interface ServerClient {
  readonly origin: string;
  readonly caPath: string;
  /** Status and parsed body of an answer. Errors: ServerUnavailable. */
  ask(path: string, options?: AskOptions): Promise<{ readonly status: number; readonly body: unknown }>;
}

export interface AskOptions {
  readonly token?: string;
  /** Sent as a form. */
  readonly form?: Readonly<Record<string, string>>;
}

/** The server of the state directory, which answers. Errors: ServerUnavailable. */
export async function connectServer(home: Home): Promise<ServerClient> {
  const file = await readServerFile(home);
  const hint = 'Start one in another terminal: kiln serve';
  if (!file) throw new KilnError('ServerUnavailable', `No server runs on the state directory ${home.root}.`, { hint });
  const ca = await readIfThere(file.ca);
  const client: ServerClient = {
    origin: file.origin,
    caPath: file.ca,
    async ask(path, options = {}) {
      try {
        return await exchange(`${file.origin}${path}`, ca, options);
      } catch (error) {
        throw new KilnError(
          'ServerUnavailable',
          `The server of ${home.root} does not answer at ${file.origin}: ${(error as Error).message}.`,
          { hint, cause: error },
        );
      }
    },
  };
  await client.ask('/metadata/az-cloud-config');
  return client;
}

function exchange(url: string, ca: string | undefined, { token, form }: AskOptions) {
  return new Promise<{ status: number; body: unknown }>((resolve, reject) => {
    const body = form && new URLSearchParams({ ...form }).toString();
    const outgoing = request(
      url,
      {
        agent: false,
        ...(ca !== undefined && { ca }),
        method: body === undefined ? 'GET' : 'POST',
        signal: AbortSignal.timeout(PATIENCE),
        headers: {
          ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
      },
      async answer => {
        try {
          const text = Buffer.concat(await answer.toArray()).toString('utf8');
          resolve({ status: answer.statusCode!, body: text === '' ? undefined : JSON.parse(text) });
        } catch (error) {
          reject(error);
        }
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
