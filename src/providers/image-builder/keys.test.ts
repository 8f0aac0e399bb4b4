/** Keys of layers, from a template's text to the phases of its build: what changes them, from where on, and what does not. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { planOf } from '../../builds/layers/plan.ts';
import { openHome } from '../../home.ts';
import type { MachineFactory, MachineShape } from '../../machines/machine.ts';
import type { StoredResource } from '../store.ts';
import { NEWEST_API_VERSION } from './api-versions.ts';
import { type BuildChoices, buildRequest } from './build-request.ts';
import { normaliseTemplate } from './normalise.ts';
import { type Download, prepareTemplate } from './prepare.ts';
import type { RunEnvironment } from './run.ts';
import { validateTemplate } from './validate.ts';

const root = await mkdtemp(join(tmpdir(), 'kiln-keys-'));
after(() => rm(root, { recursive: true }));
const home = await openHome({ home: root, env: {} });

type Json = string | number | readonly Json[] | { readonly [name: string]: Json };
type Fields = Readonly<Record<string, Json>>;

/** What a build is made of; each part on its own can change. */
interface Given {
  readonly customize: readonly Fields[];
  readonly distribute: readonly Fields[];
  readonly vmProfile: Fields;
  readonly properties: Fields;
  readonly template: Fields;
  readonly shape: Partial<MachineShape>;
  readonly source: { readonly sha256: string; readonly provisioning: string };
  /** What URLs give. */
  readonly web: Readonly<Record<string, string>>;
}

interface Key {
  readonly kind: string;
  readonly key: string;
}

const COMPUTE = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/keys/providers/Microsoft.Compute';
const vhd = (runOutputName: string): Fields => ({ type: 'VHD', runOutputName });
const managed = (name: string): Fields => ({
  ...{ type: 'ManagedImage', runOutputName: name, imageId: `${COMPUTE}/images/${name}`, location: 'westeurope' },
});

/** The way that `kiln build` and the API go: checked, completed, fetched, made a request, made phases. */
async function keysFor(given: Given, turned = false): Promise<readonly Key[]> {
  const { customize, distribute, vmProfile, properties, template, shape, web } = given;
  const source = { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' };
  const body = {
    ...{ location: 'westeurope', ...template },
    properties: { source, customize, distribute, vmProfile, ...properties },
  };
  const { template: checked, violations } = validateTemplate(turned ? reversed(body) : body, {
    ...{ apiVersion: NEWEST_API_VERSION, identityOptional: true },
  });
  assert.deepEqual(violations, []);
  const download: Download = async (url, { to }) => {
    const bytes = Buffer.from(web[url]!);
    await writeFile(to, bytes);
    return { sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length };
  };
  const normal = normaliseTemplate(checked, NEWEST_API_VERSION);
  const prepared = await prepareTemplate(normal, { files: home.files, download });
  const id = '/subscriptions/s/resourceGroups/g/providers/Microsoft.VirtualMachineImages/imageTemplates/t';
  const resource = { id, ...prepared.template } as unknown as StoredResource;
  const machines = {
    shape: async ({ kind, firmware }: MachineShape) => ({
      ...{ kind, firmware, processors: 2, memoryMiB: 1024, accelerator: 'tcg', model: 'm' },
      ...shape,
    }),
  } as unknown as MachineFactory;
  const choices: BuildChoices = { catalogue: undefined, local: true, planned: true, cache: { use: false } };
  const environment = { database: undefined, home, machines } as unknown as RunEnvironment;
  const plan = await planOf(await buildRequest(resource, 'run', environment, choices), given.source);
  return plan.map(({ kind, key }) => ({ kind, key: key! }));
}

/** The same JSON with the fields of every object the other way round. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, inner]) => [name, reversed(inner)]),
  );
}

const url = (index: number) => `https://example.com/${index}.sh?secret=1`;

const step = fc.record({
  type: fc.constantFrom('inline', 'script', 'file', 'into a directory'),
  text: fc.string({ minLength: 1, maxLength: 30 }),
});

const given = fc.array(step, { minLength: 1, maxLength: 4 }).map(
  (steps): Given => ({
    customize: steps.map(({ type, text }, index): Fields => {
      if (type === 'inline') return { type: 'Shell', inline: ['true', text] };
      if (type === 'script') return { type: 'Shell', scriptUri: url(index) };
      const destination = type === 'file' ? '/tmp/file' : '/tmp/';
      return { type: 'File', sourceUri: url(index), destination };
    }),
    distribute: [vhd('one')],
    vmProfile: { vmSize: 'Standard_B1ms', osDiskSizeGB: 30 },
    ...{ properties: {}, template: {}, shape: {} },
    source: { sha256: 'a'.repeat(64), provisioning: 'cloud-init' },
    web: Object.fromEntries(steps.map(({ text }, index) => [url(index), text])),
  }),
);

/** What `change` makes of the step's field, where it has one. */
const field = (name: string, change: (value: Json) => Json) => (all: Given, at: number) => {
  const old = all.customize[at]![name];
  if (old === undefined) return undefined;
  return { ...all, customize: all.customize.with(at, { ...all.customize[at]!, [name]: change(old) }) };
};
/** Whatever the URL of the step gives. */
const bytes = (change: (text: string) => string) => (all: Given, at: number) => {
  const from = String(all.customize[at]!.scriptUri ?? all.customize[at]!.sourceUri);
  return from in all.web ? { ...all, web: { ...all.web, [from]: change(all.web[from]!) } } : undefined;
};

/** Of one step: its own key and all after it change. */
const OF_A_STEP: Readonly<Record<string, (all: Given, at: number) => Given | undefined>> = {
  'a line more': field('inline', lines => [...(lines as Json[]), 'true']),
  'a line less': field('inline', lines => (lines as Json[]).slice(1)),
  'lines in another order': field('inline', lines => [...(lines as Json[])].reverse()),
  'a space in a line': field('inline', lines => (lines as Json[]).map(line => `${line} `)),
  destination: field('destination', path => `${path}other`),
  'bytes at the same URL': bytes(text => `${text}!`),
  'no bytes at the same URL': bytes(() => ''),
  'line endings': bytes(text => `${text}\r\n`),
  'another kind of step': (all, at) => ({
    ...all,
    customize: all.customize.with(at, { type: 'Shell', inline: ['something else'] }),
  }),
  'a step before it': (all, at) => ({
    ...all,
    customize: all.customize.toSpliced(at, 0, { type: 'Shell', inline: ['something new'] }),
  }),
};

/** Of the whole: the first phase whose key changes, which all after it do. */
const OF_ALL: Readonly<Record<string, readonly [string, (all: Given) => Given]>> = {
  'the source’s bytes': ['source', all => ({ ...all, source: { ...all.source, sha256: 'b'.repeat(64) } })],
  provisioning: ['source', all => ({ ...all, source: { ...all.source, provisioning: 'systemd-credentials' } })],
  osDiskSizeGB: ['boot', all => ({ ...all, vmProfile: { ...all.vmProfile, osDiskSizeGB: 31 } })],
  'kind of machine': ['boot', all => ({ ...all, shape: { kind: 'container' } })],
  processors: ['boot', all => ({ ...all, shape: { processors: 3 } })],
  memory: ['boot', all => ({ ...all, shape: { memoryMiB: 2048 } })],
  firmware: ['boot', all => ({ ...all, shape: { firmware: 'uefi' } })],
  accelerator: ['boot', all => ({ ...all, shape: { accelerator: 'kvm' } })],
  emulator: ['boot', all => ({ ...all, shape: { model: 'another' } })],
  'what is published': ['capture', all => ({ ...all, distribute: [vhd('one'), managed('two')] })],
};

/** What the machine never sees. */
const OF_NOTHING: Readonly<Record<string, (all: Given) => Given>> = {
  tags: all => ({ ...all, template: { tags: { any: 'thing' } } }),
  location: all => ({ ...all, template: { location: 'northeurope' } }),
  'the output’s name': all => ({ ...all, distribute: [vhd('another')] }),
  'the artifact’s tags': all => ({ ...all, distribute: [{ ...vhd('one'), artifactTags: { made: 'today' } }] }),
  timeout: all => ({ ...all, properties: { buildTimeoutInMinutes: 77 } }),
  'error handling': all => ({ ...all, properties: { errorHandling: { onCustomizerError: 'abort' } } }),
  'names of steps': all => ({ ...all, customize: all.customize.map((one, n) => ({ ...one, name: `step ${n}` })) }),
  'checksums that are said': all => ({
    ...all,
    customize: all.customize.map(one => {
      const text = all.web[String(one.scriptUri ?? one.sourceUri)];
      return text === undefined
        ? one
        : { ...one, sha256Checksum: createHash('sha256').update(text).digest('hex').toUpperCase() };
    }),
  }),
  'the query of URLs, such as a signature': all => moved(all, from => from.replace('secret=1', 'secret=2')),
  'another host with the same bytes': all => moved(all, from => from.replace('example.com', 'example.org')),
};

function moved(all: Given, to: (from: string) => string): Given {
  const customize = all.customize.map(one => ({
    ...one,
    ...(typeof one.scriptUri === 'string' && { scriptUri: to(one.scriptUri) }),
    ...(typeof one.sourceUri === 'string' && { sourceUri: to(one.sourceUri) }),
  }));
  return { ...all, customize, web: Object.fromEntries(Object.entries(all.web).map(([at, text]) => [to(at), text])) };
}

/** All keys before the index are the same, that one and all after it are new to both. */
function changedFrom(index: number, before: readonly Key[], after: readonly Key[], what: string): void {
  assert.deepEqual(after.slice(0, index), before.slice(0, index), what);
  const known = new Set(before.map(({ key }) => key));
  for (const { kind, key } of after.slice(index)) assert.ok(!known.has(key), `${what}: ${kind} has a key as before`);
}

const RUNS = { numRuns: 15 };

test('a change of a step changes its key and all after it, and no other', () =>
  fc.assert(
    fc.asyncProperty(given, fc.nat(), async (all, n) => {
      const at = n % all.customize.length;
      const keys = await keysFor(all);
      for (const [what, change] of Object.entries(OF_A_STEP)) {
        const changed = change(all, at);
        // source and boot come first
        if (changed && JSON.stringify(changed) !== JSON.stringify(all))
          changedFrom(2 + at, keys, await keysFor(changed), what);
      }
      const shorter = await keysFor({ ...all, customize: all.customize.toSpliced(-1, 1) });
      changedFrom(1 + all.customize.length, keys, shorter, 'one step less');
    }),
    RUNS,
  ));

test('a change of the source, the machine or what is published changes the keys from there on', () =>
  fc.assert(
    fc.asyncProperty(given, async all => {
      const keys = await keysFor(all);
      for (const [what, [kind, change]] of Object.entries(OF_ALL))
        changedFrom(
          keys.findIndex(one => one.kind === kind),
          keys,
          await keysFor(change(all)),
          what,
        );
    }),
    RUNS,
  ));

test('what no machine sees, and the order of fields, changes no key', () =>
  fc.assert(
    fc.asyncProperty(given, async all => {
      const keys = await keysFor(all);
      assert.equal(new Set(keys.map(({ key }) => key)).size, keys.length);
      assert.deepEqual(await keysFor(all, true), keys);
      for (const [what, change] of Object.entries(OF_NOTHING)) assert.deepEqual(await keysFor(change(all)), keys, what);
    }),
    RUNS,
  ));

test('the name of a file that goes into a directory is in the key, since it is the name that the file gets', async () => {
  const of = (name: string) =>
    keysFor({
      customize: [{ type: 'File', sourceUri: `https://example.com/${name}`, destination: '/tmp/' }],
      ...{ distribute: [vhd('one')], vmProfile: {}, properties: {}, template: {}, shape: {} },
      source: { sha256: 'a', provisioning: 'cloud-init' },
      web: { [`https://example.com/${name}`]: 'the same' },
    });
  changedFrom(2, await of('a'), await of('b'), 'name');
});
