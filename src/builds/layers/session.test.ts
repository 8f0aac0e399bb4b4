import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { KilnError } from '../../arm/errors.ts';
import { fold } from '../fold.ts';
import { keysOf } from '../layer.ts';
import type { BuildLog } from '../log.ts';
import type { BuildState, Phase, PhaseContext, PhaseKind, PhaseResult } from '../phase.ts';
import { checkStep, limitsOf, type StepCache } from './choice.ts';
import { openLayerSession } from './session.ts';
import { openLayerStore } from './store.ts';

/** The disk of these builds is a text file, and a layer of it the text so far. */
interface TextState extends BuildState {
  readonly text?: string;
}

interface Step {
  readonly name: string;
  /** What it adds: not a function of its inputs, so that one can see which making it is of. */
  readonly adds?: () => string;
  readonly fails?: boolean;
  /** It has no layer of its own. */
  readonly bare?: boolean;
}

interface Options extends Partial<StepCache> {
  readonly sha256?: string;
  readonly pause?: () => Promise<void>;
  /** Works with the files while they are checked, as a machine that is resumed does. */
  readonly hasty?: boolean;
}

async function withCache(use: (cache: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-layers-'));
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

let made = 0;

/** Whether all is well. A damaged one is for the one who awaits it. */
const isOver = (checks: readonly Promise<void>[]) =>
  Promise.race([Promise.all(checks).then(() => true), sleep(0, false)]).catch(() => sleep(20, false));

async function build(cache: string, steps: readonly Step[], options: Options = {}) {
  const { sha256 = 'source', pause, hasty, ...choices } = options;
  const ran: string[] = [];
  const said: string[] = [];
  const cached: string[] = [];
  const released: string[] = [];
  const details: Readonly<Record<string, unknown>>[] = [];
  const directory = join(cache, `run-${++made}`);
  await mkdir(directory);
  const store = await openLayerStore(cache);
  const context = {
    runId: `run-${made}`,
    directory,
    signal: new AbortController().signal,
    log: { say: (text: string) => said.push(text) } as unknown as BuildLog,
  } as PhaseContext;
  const kindOf = (index: number): PhaseKind => (index === 0 ? 'boot' : 'customize');
  const phases: Phase[] = [
    {
      kind: 'source',
      name: 'source',
      subState: 'Building',
      inputs: { sha256 },
      run: async state => ({ state, content: { sha256 } }),
    },
    ...steps.map((step, index): Phase => {
      const file = `layer-${index + 1}.txt`;
      return {
        kind: kindOf(index),
        name: index === 0 ? step.name : `${index}/${steps.length - 1} Shell "${step.name}"`,
        subState: 'Customizing',
        inputs: { name: step.name, secret: 'hunter2' },
        async run(state: TextState) {
          ran.push(step.name);
          await pause?.();
          if (step.fails) throw new KilnError('StepFailed', 'no');
          const text = `${state.text ?? sha256} ${step.adds?.() ?? step.name}`;
          const told = { detail: { length: text.length }, summary: `${text.length} characters.` };
          return { state: { ...state, text } as TextState, ...told };
        },
        ...(!step.bare && {
          layer: {
            on: ['boot', 'customize'],
            async keep(state: TextState) {
              const path = join(directory, file);
              await writeFile(path, state.text!);
              const release = async () => void released.push(file);
              return { state, content: { files: { [file]: path }, facts: {}, release } };
            },
            async restore(layers, state) {
              const checks: Promise<void>[] = [];
              for (const layer of layers) checks.push((await layer.take()).intact);
              while (hasty && !(await isOver(checks))) await readFile(join(directory, file), 'utf8');
              await Promise.all(checks);
              return { ...state, text: await readFile(join(directory, file), 'utf8') } as TextState;
            },
          },
        }),
      };
    }),
  ];
  const cacheOf: StepCache = { store, takes: () => true, shared: true, neverSteps: [], ...choices };
  const layers = openLayerSession({ ...cacheOf, ...limitsOf(phases, cacheOf) }, phases, context);
  const recorder = {
    started: async () => {},
    failed: async () => {},
    async succeeded(_: number, phase: Phase, result: Pick<PhaseResult, 'cached' | 'detail'>) {
      if (result.cached) cached.push(phase.name);
      if (result.detail) details.push(result.detail);
    },
  };
  try {
    const { state } = await fold(phases, context, recorder, layers);
    return { ran, said, cached, released, details, store, text: (state as TextState).text, error: undefined };
  } catch (error) {
    return { ran, said, cached, released, details, store, text: undefined, error: error as KilnError };
  } finally {
    await layers.settled();
  }
}

const steps = (...names: string[]): Step[] => names.map(name => ({ name }));

test('the same build again runs nothing; a change runs that step and what follows', () =>
  withCache(async cache => {
    const first = await build(cache, steps('boot', 'a', 'b'));
    assert.deepEqual(first.ran, ['boot', 'a', 'b']);
    const second = await build(cache, steps('boot', 'a', 'b'));
    assert.deepEqual([second.ran, second.text], [[], first.text]);
    assert.equal(second.cached.length, 3);
    assert.match(second.said.join('\n'), /^CACHED customize 2\/2 Shell "b": made \d+ seconds? ago, saves [\d.]+ s$/m);
    // What a phase told of what it made, the log and the record have again.
    assert.deepEqual(first.said, ['11 characters.', '13 characters.', '15 characters.']);
    assert.deepEqual(
      second.said.filter(line => !line.startsWith('CACHED')),
      first.said,
    );
    assert.deepEqual(
      second.details.map(({ length }) => length),
      [11, 13, 15],
    );
    assert.equal(typeof second.details[0]?.savedSeconds, 'number');
    assert.deepEqual((await build(cache, steps('boot', 'a', 'c'))).ran, ['c']);
    assert.deepEqual((await build(cache, steps('boot', 'x', 'b'))).ran, ['x', 'b']);
    assert.deepEqual((await build(cache, steps('boot', 'a', 'b'), { sha256: 'other' })).ran, ['boot', 'a', 'b']);
  }));

test('any change runs exactly what it can change, and gives what a build without layers gives', () =>
  withCache(async cache => {
    const names = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 4 });
    const builds = fc.array(names, { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(builds, async all => {
        const here = await mkdtemp(join(cache, 'case-'));
        const seen: string[][] = [];
        for (const list of all) {
          const shared = (other: string[]) => {
            const at = list.findIndex((name, index) => other[index] !== name);
            return at < 0 ? list.length : at;
          };
          const known = seen.length === 0 ? -1 : Math.max(...seen.map(shared));
          const { ran, text } = await build(here, steps('boot', ...list));
          assert.deepEqual(ran, known < 0 ? ['boot', ...list] : list.slice(known));
          assert.equal(text, ['source', 'boot', ...list].join(' '));
          seen.push(list);
        }
      }),
      { numRuns: 12 },
    );
  }));

test('a build that failed goes on after its last good step', () =>
  withCache(async cache => {
    const failed = await build(cache, [...steps('boot', 'a'), { name: 'b', fails: true }, ...steps('c')]);
    assert.equal(failed.error?.code, 'StepFailed');
    assert.deepEqual((await build(cache, steps('boot', 'a', 'b', 'c'))).ran, ['b', 'c']);
  }));

test('a layer knows when the first step in it ran, in whichever build', () =>
  withCache(async cache => {
    for (const names of [['boot'], ['boot', 'a'], ['boot', 'a', 'b'], ['boot', 'a', 'b', 'c']])
      await build(cache, steps(...names));
    const layers = await (await openLayerStore(cache)).list();
    const of = (name: string) => layers.find(layer => layer.name.endsWith(name))!;
    assert.deepEqual([of('boot').ranAt, of('"a"').ranAt], [undefined, undefined]);
    assert.deepEqual([of('"b"').ranAt, of('"c"').ranAt], [of('"a"').madeAt, of('"a"').madeAt]);
  }));

test('a damaged layer is found, said, and made again', () =>
  withCache(async cache => {
    const { store } = await build(cache, steps('boot', 'a', 'b'));
    const layer = (await store.list()).find(({ name }) => name.includes('"a"'))!;
    const path = join(store.directory, layer.key, layer.files[0]!.name);
    const bytes = await readFile(path);
    bytes[3]! ^= 1;
    // A new file: the run that made it, and all that took it, share the old one.
    await rm(path);
    await writeFile(path, bytes);
    const again = await build(cache, steps('boot', 'a', 'b'));
    assert.match(again.said.join('\n'), /"a" is damaged \(layer-2\.txt has another content\)/);
    assert.deepEqual([again.ran, again.text], [['a', 'b'], 'source boot a b']);
    assert.deepEqual((await build(cache, steps('boot', 'a', 'b'))).ran, []);
    await rm(join(store.directory, layer.key, layer.files[0]!.name));
    assert.deepEqual((await build(cache, steps('boot', 'a', 'b'))).ran, ['a', 'b']);
  }));

test('so is one whose files go while a machine is made of them', () =>
  withCache(async cache => {
    const { store } = await build(cache, steps('boot', 'a'));
    const layer = (await store.list()).find(({ name }) => name.includes('"a"'))!;
    const path = join(store.directory, layer.key, layer.files[0]!.name);
    await rm(path);
    await writeFile(path, 'sourcX boot a');
    const { ran, said, cached } = await build(cache, steps('boot', 'a'), { hasty: true });
    assert.match(said.join('\n'), /"a" is damaged/);
    assert.doesNotMatch(said.join('\n'), /cannot go on|cannot be taken/);
    assert.deepEqual([ran, cached], [['a'], ['boot']]);
  }));

test('nothing stands on a layer that was made anew', () =>
  withCache(async cache => {
    const numbered = (name: string): Step => ({ name, adds: () => `${name}${++made}` });
    await build(cache, [numbered('boot'), ...steps('a')]);
    await build(cache, [numbered('boot'), numbered('x')], { fresh: 'boot' });
    const { ran, text } = await build(cache, [numbered('boot'), ...steps('a')]);
    assert.deepEqual(ran, ['a']);
    const [boot] = (await build(cache, [numbered('boot')])).text!.split(' ').slice(1);
    assert.equal(text, `source ${boot} a`);
  }));

test('--fresh, --from, steps that are never kept', () =>
  withCache(async cache => {
    const template = steps('boot', 'a', 'b', 'c');
    const early = await build(cache, template, { from: 'b' });
    assert.equal(early.error?.code, 'NotFound');
    assert.deepEqual(early.ran, []);
    await build(cache, template);
    for (const word of ['b', '2']) assert.deepEqual((await build(cache, template, { fresh: word })).ran, ['b', 'c']);
    assert.deepEqual((await build(cache, template, { from: 'c' })).ran, ['c']);
    assert.deepEqual((await build(cache, template, { fresh: 'boot' })).ran, ['boot', 'a', 'b', 'c']);
    const wrong = await build(cache, template, { fresh: 'z' }).catch(error => ({ error }));
    assert.equal(wrong.error?.code, 'UsageError');
    // Only what the build has is offered.
    assert.match(wrong.error?.hint ?? '', /: a, b, c, boot\.$/);
    const customize = [{ type: 'Shell', name: 'a' }, { type: 'File' }];
    for (const word of ['a', '2', 'capture']) checkStep(customize, word);
    for (const word of ['0', '3', 'b', 'source'])
      assert.throws(() => checkStep(customize, word), { code: 'UsageError' });
    for (let n = 0; n < 2; n++) assert.deepEqual((await build(cache, template, { neverSteps: [1] })).ran, ['b', 'c']);
    // What was not to be taken was not taken.
    assert.deepEqual((await build(cache, template, { takes: (_, { kind }) => kind === 'boot' })).ran, ['a', 'b', 'c']);
  }));

test('a layer saves what phases without one took before it', () =>
  withCache(async cache => {
    let phase = 0;
    const pause = () => new Promise<void>(resolve => setTimeout(resolve, phase++ === 1 ? 100 : 0));
    const { store } = await build(cache, [{ name: 'boot' }, { name: 'a', bare: true }, { name: 'b' }], { pause });
    const kept = new Map((await store.list()).map(({ name, seconds }) => [name, seconds]));
    assert.deepEqual([...kept.keys()].sort(), ['boot boot', 'customize 2/2 Shell "b"']);
    assert.ok(kept.get('customize 2/2 Shell "b"')! > 0.09);
  }));

test('two builds at once make each layer once', () =>
  withCache(async cache => {
    const pause = () => new Promise<void>(resolve => setTimeout(resolve, 100));
    const both = await Promise.all([1, 2].map(() => build(cache, steps('boot', 'a', 'b'), { pause })));
    assert.deepEqual(both.flatMap(({ ran }) => ran).sort(), ['a', 'b', 'boot']);
    assert.deepEqual(new Set(both.map(({ text }) => text)).size, 1);
    assert.match(both.flatMap(({ said }) => said).join('\n'), /Another build is making boot/);
  }));

test('two builds that share nothing else share a warm start, and neither waits for the other afterwards', () =>
  withCache(async cache => {
    const pause = () => new Promise<void>(resolve => setTimeout(resolve, 100));
    const takes: StepCache['takes'] = (_, { kind }) => kind === 'boot';
    const both = await Promise.all([1, 2].map(() => build(cache, steps('boot', 'a'), { pause, takes, shared: false })));
    assert.deepEqual(both.flatMap(({ ran }) => ran).sort(), ['a', 'a', 'boot']);
    const said = both.flatMap(each => each.said).filter(line => line.includes('Another build'));
    assert.deepEqual(said, ['Another build is making boot boot; waiting for it.']);
  }));

test('layers hold no inputs, and nobody else reads them', () =>
  withCache(async cache => {
    const { store } = await build(cache, steps('boot', 'a'));
    assert.equal((await stat(store.directory)).mode & 0o077, 0);
    for (const { key } of await store.list())
      assert.doesNotMatch(await readFile(join(store.directory, key, 'layer.json'), 'utf8'), /hunter2/);
  }));

test('a store that cannot be written is said, and the build goes on', () =>
  withCache(async cache => {
    const store = await openLayerStore(cache);
    const broken = {
      ...store,
      keep: async () => {
        throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
      },
    };
    const { ran, text, said } = await build(cache, steps('boot', 'a'), { store: broken });
    assert.deepEqual([ran, text], [['boot', 'a'], 'source boot a']);
    assert.match(said.join('\n'), /boot boot cannot be kept as a layer/);
    assert.deepEqual(
      (await readdir(store.directory)).filter(name => name !== '.locks'),
      [],
    );
  }));

test('keys: a change of one phase changes it and all after it, none before; the order of fields nothing', () => {
  const phase = fc.record({
    kind: fc.constantFrom<PhaseKind>('boot', 'customize', 'capture'),
    name: fc.string(),
    inputs: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.dictionary(fc.string(), fc.boolean()))),
  });
  fc.assert(
    fc.property(fc.array(phase, { minLength: 2, maxLength: 6 }), fc.nat(), (phases, n) => {
      const keys = keysOf(phases, 'source');
      const at = 1 + (n % (phases.length - 1));
      const changed = phases.with(at, { ...phases[at]!, inputs: { ...phases[at]!.inputs, 'an input more': 1 } });
      for (const [index, key] of keysOf(changed, 'source').entries())
        assert.equal(key === keys[index], index < at, `${index} of ${at}`);
      const reordered = phases.map(one => ({ ...one, inputs: turned(one.inputs) }));
      assert.deepEqual(keysOf(reordered, 'source'), keys);
      assert.ok(keysOf(phases, 'other').every((key, index) => key !== keys[index]));
    }),
  );
});

const turned = (value: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, inner]) => [name, typeof inner === 'object' ? turned(inner) : inner]),
  );

test('what only a layer needs is released when that is stored, and when it cannot be', () =>
  withCache(async cache => {
    const files = ['layer-1.txt', 'layer-2.txt', 'layer-3.txt'];
    assert.deepEqual((await build(cache, steps('boot', 'a', 'b'))).released, files);
    const store = await openLayerStore(cache);
    const keep = async () => {
      throw new Error('no');
    };
    const { released, ran } = await build(cache, steps('boot', 'c'), { store: { ...store, keep }, fresh: 'boot' });
    assert.deepEqual([ran, released], [['boot', 'c'], files.slice(0, released.length)]);
    assert.ok(released.length > 0);
  }));

test('steps that are faster than the store wait for it', () =>
  withCache(async cache => {
    const store = await openLayerStore(cache);
    let [begun, stored, most] = [0, 0, 0];
    const keep: typeof store.keep = async layer => {
      await sleep(20);
      await store.keep(layer);
      stored++;
    };
    const step = (name: string): Step => ({
      name,
      adds() {
        most = Math.max(most, begun++ - stored);
        return name;
      },
    });
    const many = ['boot', ...'abcdefghijkl'].map(step);
    assert.equal((await build(cache, many, { store: { ...store, keep } })).ran.length, many.length);
    assert.equal(stored, many.length);
    assert.ok(most <= 4, `${most} waited`);
  }));
