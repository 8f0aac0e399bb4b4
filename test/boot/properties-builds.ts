/** Builds the templates of properties-templates.ts on one machine, and gathers all that can be seen of it: runs, logs, files of the images, resources. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ErrorBody } from '../../src/arm/errors.ts';
import { openDatabase } from '../../src/database/connection.ts';
import { openHome } from '../../src/home.ts';
import type { ImageManifest } from '../../src/images/manifest.ts';
import { list } from '../../src/images/store.ts';
import { listResources, type Store } from '../../src/providers/store.ts';
import { cacheDirectory, kiln, leftovers } from '../kiln.ts';
import { comparable } from './image-differences.ts';
import type { ImageFiles } from './image-files.ts';
import { TEMPLATES, type TemplateName, writeTemplates } from './properties-templates.ts';

export type MachineKind = 'vm' | 'container';

/** Of what is another one each time, ids and digests, only that it is there: else it is the same on both machines. */
export interface Built {
  readonly exitCode: number | null;
  readonly state: string;
  readonly error: ErrorBody | null;
  readonly size: { readonly processors: number; readonly memoryMiB: number };
  /** `customize 1/5 Shell "script": Succeeded`. */
  readonly phases: readonly string[];
  readonly outputs: readonly Output[];
  /** What the steps, the validators and the targets said: `customize stdout TEXT`. */
  readonly said: readonly string[];
  /** NAME → VALUE of the last line `fact NAME=VALUE` that the guests printed. */
  readonly facts: Readonly<Record<string, string>>;
  /** Of validation.log. */
  readonly marks: readonly string[];
  /** Of the VHD; missing where there is none. */
  readonly files?: ImageFiles;
}

interface Output {
  readonly name: string;
  readonly artifactId: string;
  readonly artifactUri: string | null;
  readonly location: string;
  readonly virtualSize: number;
}

export interface Machine {
  readonly builds: Readonly<Record<TemplateName, Built>>;
  /** By id. */
  readonly resources: Readonly<Record<string, Shown>>;
  /** All that the store of regions has. */
  readonly images: readonly ImageManifest[];
  readonly left: readonly string[];
}

export interface Shown {
  readonly location?: string;
  readonly tags?: unknown;
  // biome-ignore lint/suspicious/noExplicitAny: each type has its own
  readonly properties: any;
}

export async function buildAll(kind: MachineKind, home: string): Promise<Machine> {
  const since = Date.now();
  const env = { KILN_CACHE: cacheDirectory() };
  const paths = await writeTemplates(join(home, 'templates'));
  const names = Object.keys(TEMPLATES) as TemplateName[];
  const ends: Ended[] = [];
  for (const name of names) {
    const { exitCode, stdout, stderr } = await kiln(['--home', home, 'build', paths[name], '--machine', kind], env);
    const id = /^run ([0-9a-f-]{36})$/m.exec(stderr)?.[1] ?? assert.fail(`${name}: ${stdout}\n${stderr}`);
    ends.push({ id, exitCode });
  }
  const left = await leftovers(home);
  const place: Place = { home, since, plain: value => JSON.parse(plain(JSON.stringify(value), home)) };
  const database = await openDatabase({ home: await openHome({ home }), log: () => {} });
  try {
    const builds: [TemplateName, Built][] = [];
    for (const [index, name] of names.entries()) builds.push([name, await look(database.kysely, ends[index]!, place)]);
    const resources = (await listResources(database.kysely)).map(({ id, location, tags, properties }) => {
      const shown = { ...(location && { location }), ...(tags && { tags }), properties };
      return [place.plain(id), place.plain(shown)] as const;
    });
    const images = (await list(home)).map(({ manifest: { allocatedSize: _, ...one } }) => place.plain(one));
    return {
      builds: Object.fromEntries(builds) as Record<TemplateName, Built>,
      resources: Object.fromEntries(resources),
      images: images.sort((a, b) => `${a.id} ${a.location}`.localeCompare(`${b.id} ${b.location}`)),
      left,
    };
  } finally {
    await database.close();
  }
}

interface Ended {
  readonly id: string;
  readonly exitCode: number | null;
}

interface Place {
  readonly home: string;
  readonly since: number;
  // biome-ignore lint/suspicious/noExplicitAny: the same type again
  readonly plain: (value: unknown) => any;
}

/** Ids, times and digests are another one each time. */
const plain = (text: string, home: string): string =>
  text
    .replaceAll(home, 'HOME')
    .replaceAll(/(?!00000000)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/\b[0-9a-f]{64}\b|(?<=-vhd-)[0-9a-f]{16}\b/g, 'DIGEST')
    .replaceAll(/\b\d+(\.\d+)? s\b/g, 'SOME s');

async function look(store: Store, { id, exitCode }: Ended, { home, since, plain }: Place): Promise<Built> {
  const run = await store.selectFrom('run').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
  const phases = await store.selectFrom('phase').selectAll().where('run_id', '=', id).orderBy('index').execute();
  const lines = await store.selectFrom('log_line').selectAll().where('run_id', '=', id).orderBy('seq').execute();
  const outputs = await store.selectFrom('run_output').selectAll().where('run_id', '=', id).orderBy('name').execute();
  const saidBy = (...kinds: string[]) =>
    lines.flatMap(({ phase, stream, text }) => {
      const kind = phases[phase ?? -1]?.kind ?? '';
      return kinds.includes(kind) ? [plain(`${kind} ${stream} ${text}`) as string] : [];
    });
  const { processors, memoryMiB } = run.machine as Built['size'];
  const validation = await readFile(join(home, 'logs', id, 'validation.log'), 'utf8').catch(() => '');
  const vhd = outputs.find(({ name }) => name.endsWith('-vhd'))?.path;
  return {
    ...{ exitCode, state: run.state, error: plain(run.error), size: { processors, memoryMiB } },
    phases: phases.map(phase => `${phase.kind} ${phase.name}: ${phase.state}`),
    outputs: outputs.map(({ name, artifact_id, artifact_uri, location, virtual_size }) =>
      plain({ name, artifactId: artifact_id, artifactUri: artifact_uri, location, virtualSize: virtual_size }),
    ),
    // Targets speak at once.
    said: [...saidBy('customize', 'validate'), ...saidBy('distribute').sort()],
    facts: Object.fromEntries(
      lines.flatMap(({ text }) => {
        const [, name, value] = /^fact ([a-z-]+)=(.*)$/.exec(text) ?? [];
        return name === undefined || value === undefined ? [] : [[name, value]];
      }),
    ),
    marks: validation.split('\n').flatMap(line => /\(telemetry\) (.*)$/.exec(line)?.[1] ?? []),
    ...(vhd && { files: await comparable(vhd, since) }),
  };
}
