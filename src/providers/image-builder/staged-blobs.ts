/**
 * What runs leave in the storage account of their template's staging group, as blobs (contract 3.4): logs in the container `packerlogs`, a folder for each
 * run, and VHDs in the container `vhds`.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import { idKey } from '../../arm/ids.ts';
import type { Schema } from '../../database/schema.ts';
import { logFile } from '../builds/run-log.ts';
import type { ProviderEnvironment } from '../provider.ts';
import type { StorageAccount } from '../storage/find-account.ts';
import type { StoredResource } from '../store.ts';
import { stagingOf } from './staging.ts';

export const LOG_CONTAINER = 'packerlogs';
export const LOG_NAMES = Object.freeze(['customization.log', 'validation.log'] as const);

/** Path-style, without the host: a run may end in a process that does not know what clients call the server. */
export function logLocation(
  template: StoredResource | undefined,
  runId: string,
  name: (typeof LOG_NAMES)[number] = 'customization.log',
): string | undefined {
  const staging = template && stagingOf(template);
  return staging && `/${staging.account}/${LOG_CONTAINER}/${runId}/${name}`;
}

const LOCATION = new RegExp(`(Image Build log location: )(/[a-z0-9]{3,24}/${LOG_CONTAINER}/)`);

/** The message of a failed run with the whole URL in it. What follows the sentence may come from a guest and is left alone. */
export function withLogUrl(message: string, origin: string): string {
  return message.replace(LOCATION, (_text, before: string, path: string) => `${before}${origin}${path}`);
}

export const VHD_CONTAINER = 'vhds';

/** Where clients fetch a VHD, path-style; undefined when the template has no staging account, as with `kiln build`. */
export function vhdLocation(
  template: StoredResource | undefined,
  output: { readonly name: string; readonly run_id: string },
): string | undefined {
  const staging = template && stagingOf(template);
  return staging && `/${staging.account}/${VHD_CONTAINER}/${output.run_id}/${output.name}.vhd`;
}

/** A blob of a run: a file that users cannot change. */
export interface StagedBlob {
  readonly name: string;
  /** Azure keeps disks as page blobs. */
  readonly type: 'BlockBlob' | 'PageBlob';
  readonly contentType: string;
  readonly path: string;
  readonly size: number;
  readonly etag: string;
  readonly created: Date;
  readonly modified: Date;
  /** It does not change any more. */
  readonly final: boolean;
}

export type StagedEnvironment = Pick<ProviderEnvironment, 'database' | 'home'>;

/** The containers that a template's account has from the beginning. */
export const STAGED_CONTAINERS: readonly string[] = Object.freeze([LOG_CONTAINER, VHD_CONTAINER]);

/** Undefined when it is none of this account's. Names are untrusted. */
export async function stagedBlob(
  environment: StagedEnvironment,
  { template }: Pick<StorageAccount, 'template'>,
  container: string,
  blob: string,
): Promise<StagedBlob | undefined> {
  if (!template || !STAGED_CONTAINERS.includes(container)) return undefined;
  const [runId = '', file = '', ...more] = blob.split('/');
  if (more.length > 0 || !RUN_ID.test(runId)) return undefined;
  if (container === VHD_CONTAINER) {
    const [output] = await vhdsOf(environment.database, template, { runId, file });
    return output && (await vhdBlob(output));
  }
  const name = LOG_NAMES.find(one => one === file);
  const [run] = name ? await loggedRuns(environment.database, template, { id: runId }) : [];
  return run && name && (await logBlob(environment, run, name));
}

/** Those of a container that are there, by name; only what is asked for is looked at. */
export async function* stagedBlobs(
  environment: StagedEnvironment,
  { template }: Pick<StorageAccount, 'template'>,
  container: string,
  options: { /** Names from here on. */ readonly from?: string } = {},
): AsyncGenerator<StagedBlob> {
  if (!template) return;
  const first = options.from?.split('/')[0] ?? '';
  const from = RUN_ID.test(first) ? { from: first } : {};
  if (container === LOG_CONTAINER)
    for (const run of await loggedRuns(environment.database, template, from))
      for (const name of LOG_NAMES) {
        const found = await logBlob(environment, run, name);
        if (found) yield found;
      }
  if (container === VHD_CONTAINER)
    for (const output of await vhdsOf(environment.database, template, from)) {
      const found = await vhdBlob(output);
      if (found) yield found;
    }
}

const RUN_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

async function logBlob(
  { home }: StagedEnvironment,
  run: LoggedRun,
  name: (typeof LOG_NAMES)[number],
): Promise<StagedBlob | undefined> {
  const path = logFile(home.logs, run.id, name);
  const about = { name: `${run.id}/${name}`, type: 'BlockBlob', contentType: 'text/plain; charset=utf-8' } as const;
  return await fileBlob(path, { ...about, created: run.created_at, final: false });
}

async function vhdBlob(output: StagedVhd): Promise<StagedBlob | undefined> {
  const name = `${output.run_id}/${output.name}.vhd`;
  const about = { name, type: 'PageBlob', contentType: 'application/octet-stream' } as const;
  return await fileBlob(output.path, { ...about, created: output.created_at, final: true });
}

async function fileBlob(
  path: string,
  about: Omit<StagedBlob, 'path' | 'size' | 'etag' | 'modified'>,
): Promise<StagedBlob | undefined> {
  const file = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (!file?.isFile()) return undefined;
  return { ...about, path, size: file.size, etag: fileEtag(file), modified: file.mtime };
}

/** What is appended to a log meanwhile belongs to another one. */
export function fileEtag({ size, mtimeMs }: { readonly size: number; readonly mtimeMs: number }): string {
  return `0x${createHash('sha256').update(`${size} ${mtimeMs}`).digest('hex').slice(0, 15).toUpperCase()}`;
}

interface StagedVhd {
  readonly name: string;
  readonly run_id: string;
  readonly path: string;
  readonly created_at: Date;
}

async function vhdsOf(
  database: Kysely<Schema>,
  template: StoredResource,
  { runId, file, from }: { readonly runId?: string; readonly file?: string; readonly from?: string },
): Promise<StagedVhd[]> {
  if (file !== undefined && !file.endsWith('.vhd')) return [];
  const rows = await database
    .selectFrom('run_output')
    .select(['name', 'run_id', 'path', 'created_at'])
    .where('template_id', '=', idKey(template.id))
    .where('artifact_uri', 'is not', null)
    .where('path', 'is not', null)
    .$if(runId !== undefined, query => query.where('run_id', '=', runId!))
    .$if(file !== undefined, query => query.where('name', '=', file!.slice(0, -'.vhd'.length)))
    .$if(from !== undefined, query => query.where(sql<boolean>`run_id::text >= ${from!}`))
    .orderBy(sql`run_id::text collate "C", name || '.vhd' collate "C"`)
    .execute();
  return rows.flatMap(row => (row.path === null ? [] : [{ ...row, path: row.path }]));
}

interface LoggedRun {
  readonly id: string;
  readonly created_at: Date;
}

/** In the order of their ids. Runs of a deleted template with the same name are not this one's. */
async function loggedRuns(
  database: Kysely<Schema>,
  template: StoredResource,
  options: { readonly id?: string; readonly from?: string } = {},
): Promise<LoggedRun[]> {
  const { id, from } = options;
  return await database
    .selectFrom('run')
    .select(['id', 'created_at'])
    .where('template_id', '=', idKey(template.id))
    .where('created_at', '>=', template.createdAt)
    .$if(id !== undefined, query => query.where('id', '=', id!))
    .$if(from !== undefined, query => query.where(sql<boolean>`id::text >= ${from!}`))
    .orderBy(sql`id::text collate "C"`)
    .execute();
}
