/**
 * What creating a template does besides storing it: its scripts and files are fetched and kept under their SHA-256, and the checksums are filled in
 * (contract 1.5). A build uses the bytes of that moment, whatever the URL gives later.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import { sync } from '../../disks/durable.ts';
import type { Progress } from '../../images/source.ts';
import type { ImageTemplate, ImageTemplateProperties } from './normalise.ts';

/** Fetches a URL into a file. `file:` URLs, too: validation lets them through only where they are allowed. */
export type Download = (
  url: string,
  options: {
    readonly to: string;
    readonly maxBytes?: number;
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: Progress) => void;
    /** Before each attempt: the first is 1. */
    readonly onAttempt?: (attempt: number, most: number) => void;
  },
) => Promise<{ readonly sha256: string; readonly size: number }>;

export interface PrepareOptions {
  /** Home.files. */
  readonly files: string;
  /** The operation that fetches: whether it is alive decides what becomes of files that are half there. Fit for a file name. */
  readonly owner?: string;
  readonly download: Download;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /** Plain sentences: what was fetched. */
  readonly report?: (line: string) => void;
}

export interface PreparedFile {
  /** The step: `properties.customize[0]`. */
  readonly path: string;
  /** As the template has it; may carry a secret in its query. */
  readonly url: string;
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
  /** Absolute path of the kept copy: PrepareOptions.files/SHA256. */
  readonly file: string;
}

export interface PreparedTemplate {
  /** With every sha256Checksum filled in. */
  readonly template: ImageTemplate;
  readonly files: readonly PreparedFile[];
}

/** A script is text that somebody wrote; a File customizer's file may have any size. */
const MAX_SCRIPT_BYTES = 64 * 1024 * 1024;
const INCOMING = 'incoming-';

interface Step {
  /** The workload that an image is optimized for has none. */
  readonly type?: string;
  readonly name?: string;
  readonly scriptUri?: string;
  readonly sourceUri?: string;
  readonly sha256Checksum?: string;
}

/**
 * Fetches everything that the steps of a template name. Nothing half-fetched stays behind; what was fetched completely stays, for the next try.
 * Errors: DownloadFailed, ChecksumMismatch (both with the step as target), DiskFull, Canceled.
 */
export async function prepareTemplate(template: ImageTemplate, options: PrepareOptions): Promise<PreparedTemplate> {
  await mkdir(options.files, { recursive: true, mode: 0o700 });
  const files: PreparedFile[] = [];
  const fetched = new Map<string, Promise<Fetched>>();
  const incoming = await mkdtemp(join(options.files, `${INCOMING}${options.owner ?? ''}+`));
  try {
    const prepareStep = async <Kind extends Step>(step: Kind, path: string): Promise<Kind> => {
      const url = step.scriptUri ?? step.sourceUri;
      if (url === undefined) return step;
      const file = await fetchOnce(url, step, path, { ...options, incoming, fetched });
      checkSum(step, path, url, file.sha256);
      files.push({ path, url, ...file });
      return { ...step, sha256Checksum: file.sha256 };
    };
    const prepare = async <Kind extends Step>(steps: readonly Kind[], at: JsonPath): Promise<Kind[]> => {
      const prepared: Kind[] = [];
      for (const [index, step] of steps.entries()) prepared.push(await prepareStep(step, formatPath([...at, index])));
      return prepared;
    };
    const { properties } = template;
    const customize = await prepare(properties.customize, ['properties', 'customize']);
    const checks = properties.validate?.inVMValidations;
    const inVMValidations = checks && (await prepare(checks, ['properties', 'validate', 'inVMValidations']));
    const validate = inVMValidations ? { validate: { ...properties.validate, inVMValidations } } : {};
    const script = properties.optimize?.workload;
    const workload = script?.scriptUri && (await prepareStep(script, 'properties.optimize.workload'));
    const optimize = workload ? { optimize: { ...properties.optimize, workload } } : {};
    return { template: { ...template, properties: { ...properties, customize, ...validate, ...optimize } }, files };
  } finally {
    await rm(incoming, { recursive: true, force: true });
  }
}

/** Where the kept copy of a step's script or file lies. */
export function preparedFile(files: string, sha256: string): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new TypeError(`not a checksum: ${sha256}`);
  return join(files, sha256);
}

interface Fetched {
  readonly sha256: string;
  readonly size: number;
  readonly file: string;
}

interface Fetching extends PrepareOptions {
  readonly incoming: string;
  readonly fetched: Map<string, Promise<Fetched>>;
}

/** Two steps with one URL get the same bytes. */
async function fetchOnce(url: string, step: Step, path: string, fetching: Fetching): Promise<Fetched> {
  const known = fetching.fetched.get(url);
  if (known) return await known;
  const fetch = fetchInto(url, step, path, fetching);
  fetching.fetched.set(url, fetch);
  return await fetch;
}

async function fetchInto(url: string, step: Step, path: string, fetching: Fetching): Promise<Fetched> {
  const { files, incoming, signal, onProgress } = fetching;
  signal?.throwIfAborted();
  const to = join(incoming, localName(path));
  let attempts = '1 of 1';
  let result: Awaited<ReturnType<Download>>;
  try {
    result = await fetching.download(url, {
      to,
      ...(step.sourceUri === undefined && { maxBytes: MAX_SCRIPT_BYTES }),
      ...(signal && { signal }),
      ...(onProgress && { onProgress }),
      onAttempt(attempt, most) {
        attempts = `${attempt} of ${most}`;
      },
    });
  } catch (cause) {
    throw fetchError({ url, step, path, attempts, local: basename(to) }, cause);
  }
  const file = preparedFile(files, result.sha256);
  await sync(to);
  await rename(to, file);
  await sync(files);
  fetching.report?.(
    `Fetched ${shownUrl(url)} (${result.size} bytes, SHA-256 ${result.sha256}) for ${stepName(step, path)}.`,
  );
  return { ...result, file };
}

/** As the service calls them: `3f2a1.0.customizer.fp`. */
function localName(path: string): string {
  const index = /\[(\d+)\]$/.exec(path)?.[1] ?? '0';
  const role = path.includes('inVMValidations') ? 'validator' : path.includes('optimize') ? 'workload' : 'customizer';
  return `${randomBytes(3).toString('hex').slice(1)}.${index}.${role}.fp`;
}

interface Failed {
  readonly url: string;
  readonly step: Step;
  readonly path: string;
  /** `2 of 4` */
  readonly attempts: string;
  /** Name of the file that it should have become. */
  readonly local: string;
}

/** The service's sentence (contract 3.2), then step and reason, which it leaves out. */
function fetchError({ url, step, path, attempts, local }: Failed, thrown: unknown): KilnError {
  const error = asKilnError(thrown);
  if (error.code === 'Canceled' || error.code === 'DiskFull' || error.code === 'StateUnwritable') return error;
  const hint = url.startsWith('file:') ? 'Local paths are relative to the template file.' : error.hint;
  const shown = shownUrl(url);
  return new KilnError(
    'DownloadFailed',
    `Downloading external file (${shown}) to local file (${local}) [attempt ${attempts}] failed: Error downloading '${shown}' to '${local}'.. It is for ${stepName(step, path)}: ${error.message}`,
    {
      target: `${path}.${step.scriptUri === undefined ? 'sourceUri' : 'scriptUri'}`,
      ...(hint !== undefined && { hint }),
      cause: thrown,
    },
  );
}

function checkSum(step: Step, path: string, url: string, sha256: string): void {
  if (step.sha256Checksum === undefined || step.sha256Checksum === '' || step.sha256Checksum === sha256) return;
  throw new KilnError(
    'ChecksumMismatch',
    `The file of ${stepName(step, path)} has the SHA-256 checksum ${sha256}, but the template says ${step.sha256Checksum}.`,
    {
      target: `${path}.sha256Checksum`,
      hint: `See what ${shownUrl(url)} gives; if that is right, put its checksum into the template.`,
    },
  );
}

function stepName(step: Step, path: string): string {
  return step.type === undefined ? path : `${path} (${step.type}${step.name ? ` "${step.name}"` : ''})`;
}

/** Without user, password and query: they may be secrets, as in a SAS. */
export function shownUrl(url: string): string {
  if (!URL.canParse(url)) return url;
  const { protocol, host, pathname, search } = new URL(url);
  return `${protocol}//${host}${pathname}${search === '' ? '' : '?…'}`;
}

/** Removes what operations that died have fetched by halves. */
export async function sweepIncoming(files: string, isAlive: (owner: string) => Promise<boolean>): Promise<void> {
  for (const name of await readdir(files))
    if (name.startsWith(INCOMING) && !(await isAlive(name.slice(INCOMING.length, name.lastIndexOf('+')))))
      await rm(join(files, name), { recursive: true, force: true });
}

/** The documented code of a creation that failed, for `provisioningError`: by what is at fault (contract 1.3, 3.2). */
export function provisioningErrorCode(
  error: KilnError,
  properties?: Pick<ImageTemplateProperties, 'source' | 'distribute'>,
): string {
  const target = error.target ?? '';
  if (error.code === 'DownloadFailed' || error.code === 'ChecksumMismatch') {
    if (target.includes('optimize')) return 'Other';
    return target.includes('inVMValidations') ? 'NoValidatorScript' : 'NoCustomizerScript';
  }
  if (error.code === 'InternalError') return 'ServerError';
  if (error.code === 'SourceNotFound' || error.code === 'SourceUnusable' || target.startsWith('properties.source'))
    return BAD_SOURCE[properties?.source.type ?? 'PlatformImage'];
  if (target.startsWith('properties.stagingResourceGroup')) return 'BadStagingResourceGroup';
  const index = /^properties\.distribute\[(\d+)\]/.exec(target)?.[1];
  if (index !== undefined && properties?.distribute[Number(index)]?.type === 'SharedImage')
    return 'BadSharedImageDistribute';
  return 'Other';
}

const BAD_SOURCE = Object.freeze({
  PlatformImage: 'BadPIRSource',
  ManagedImage: 'BadManagedImageSource',
  SharedImageVersion: 'BadSharedImageVersionSource',
});
