/**
 * True exchanges with the real service (azure-cli's own tests, az 2.45), to be sent to our server and compared. They are read from where they lie
 * (KILN_RECORDINGS, or ../shared/recordings beside the checkout); none are part of the project.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ROOT } from '../kiln.ts';

export interface Recorded {
  /** `test_image_builder_basic 19`: the file and the line. */
  readonly name: string;
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  /** Parsed; undefined for none. */
  readonly body: unknown;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly answer: unknown;
}

export interface Recording {
  readonly name: string;
  readonly exchanges: readonly Recorded[];
}

export function recordingsDirectory(): { readonly path: string } | { readonly missing: string } {
  const path = process.env.KILN_RECORDINGS ?? join(ROOT, '../shared/recordings');
  return existsSync(path) ? { path } : { missing: `The recordings are not at ${path} (KILN_RECORDINGS).` };
}

/** All recordings below a directory, ordered by name. */
export function readRecordings(directory: string): Recording[] {
  return globSync('**/*.jsonl', { cwd: directory })
    .sort()
    .map(file => {
      const name = basename(file, '.jsonl');
      const lines = readFileSync(join(directory, file), 'utf8').split('\n').filter(Boolean);
      return { name, exchanges: lines.map((line, index) => recorded(JSON.parse(line), `${name} ${index + 1}`)) };
    });
}

/** Whether the exchange is one with Image Builder, and so one that has to match. */
export function isImageBuilder({ path }: Recorded): boolean {
  return /\/providers\/Microsoft\.VirtualMachineImages\//i.test(path);
}

interface Line {
  readonly request: { method: string; host: string; path: string; query: string; body?: unknown };
  readonly response: { status: number; headers: Record<string, string>; body?: unknown };
}

function recorded({ request, response }: Line, name: string): Recorded {
  const { method, host, path, query } = request;
  const { status, headers } = response;
  const answer = response.body === '' || response.body === null ? undefined : response.body;
  return { name, method, host, path, query, body: requestBody(request.body), status, headers, answer };
}

/** The recorder wrote some bodies as Python shows bytes: `b'{…}'`. */
function requestBody(body: unknown): unknown {
  if (body === undefined || body === null || body === '') return undefined;
  if (typeof body !== 'string') return body;
  const bytes = /^b'(.*)'$/s.exec(body)?.[1];
  return JSON.parse(bytes === undefined ? body : bytes.replaceAll(/\\(['\\])/g, '$1').replaceAll('\\n', '\n'));
}

/** What has other words here than it had there: learnt while exchanges are replayed, and put into those that follow. */
export class Words {
  readonly #ours = new Map<string, string>();

  set(recorded: string, ours: string): void {
    this.#ours.set(recorded.toLowerCase(), ours);
  }

  /** A recorded text in our words. */
  translate(text: string): string {
    let result = text;
    for (const [recorded, ours] of this.#ours)
      result = result.replaceAll(new RegExp(recorded.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gi'), found =>
        isUpper(found) ? ours.toUpperCase() : ours,
      );
    return result;
  }

  translateJson<Value>(value: Value): Value {
    return value === undefined ? value : (JSON.parse(this.translate(JSON.stringify(value))) as Value);
  }

  /** Learns GUIDs and versions that stand at the same places of two answers. */
  learn(recorded: unknown, ours: unknown): void {
    if (typeof recorded === 'string' && typeof ours === 'string') {
      for (const pattern of [GUIDS, VERSIONS]) {
        const [there, here] = [recorded.match(pattern) ?? [], ours.match(pattern) ?? []];
        if (there.length !== here.length) continue;
        there.forEach((word, index) => {
          if (word !== here[index]) this.set(word, here[index]!);
        });
      }
    } else if (isObject(recorded) && isObject(ours))
      for (const [key, member] of Object.entries(recorded)) this.learn(member, ours[key]);
  }
}

const GUIDS = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi;
const VERSIONS = /(?<=\/versions\/)\d+\.\d+\.\d+$/g;
/** Go's zero time stands for "not yet": it is compared as it is. */
const TIME = /^(?!0001-01-01)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
const STAGING = /\/IT_[^/]{1,40}_<guid>$/;

/** A value without what differs from one run to the next: GUIDs, times, generated names of staging groups. */
export function masked(value: unknown): unknown {
  if (typeof value === 'string') {
    if (TIME.test(value)) return '<time>';
    // The name of an operation is its id in capitals; that much is compared.
    return value.replaceAll(GUIDS, guid => (isUpper(guid) ? '<GUID>' : '<guid>')).replace(STAGING, '/<staging group>');
  }
  if (Array.isArray(value)) return value.map(masked);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [masked(key) as string, masked(member)]));
}

function isUpper(text: string): boolean {
  return text === text.toUpperCase() && text !== text.toLowerCase();
}

/** Where two values differ, as sentences. */
export function differences(recorded: unknown, ours: unknown, at = ''): string[] {
  if (isDeepStrictEqual(recorded, ours)) return [];
  const isNested = (value: unknown) => typeof value === 'object' && value !== null;
  if (!isNested(recorded) || !isNested(ours) || Array.isArray(recorded) !== Array.isArray(ours))
    return [`${at || 'the body'}: recorded ${shown(recorded)}, ours ${shown(ours)}`];
  const [there, here] = [recorded as Record<string, unknown>, ours as Record<string, unknown>];
  return [...new Set([...Object.keys(there), ...Object.keys(here)])].flatMap(key =>
    differences(there[key], here[key], at === '' ? key : `${at}.${key}`),
  );
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 300);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
