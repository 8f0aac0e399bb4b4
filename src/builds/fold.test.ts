import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KilnError } from '../arm/errors.ts';
import { fold } from './fold.ts';
import { keysOf, layerKey, sourceKey } from './layer.ts';
import type { BuildLog } from './log.ts';
import type { Phase, PhaseContext, PhaseKind, PhaseResult } from './phase.ts';

const context = (signal = new AbortController().signal, said: string[] = []) =>
  ({
    signal,
    log: { of: (index: number) => ({ say: (text: string) => said.push(`${index}: ${text}`) }) } as unknown as BuildLog,
  }) as unknown as PhaseContext;

function phase(name: string, run: Phase['run'] = async state => ({ state }), kind: PhaseKind = 'customize'): Phase {
  return { kind, name, subState: 'Customizing', inputs: { name }, run };
}

function recorder() {
  const seen: string[] = [];
  const keys: string[] = [];
  return {
    seen,
    keys,
    async started(index: number, _: Phase, key: string) {
      seen.push(`start ${index}`);
      keys.push(key);
    },
    async succeeded(index: number, _: Phase, __: PhaseResult) {
      seen.push(`done ${index}`);
    },
    async failed(index: number, _: Phase, error: KilnError, skipped: readonly number[]) {
      seen.push(`failed ${index} ${error.code}`, ...skipped.map(other => `skip ${other}`));
    },
  };
}

test('an error at any phase ends the fold there and is told once', async () => {
  for (let at = 0; at < 4; at++) {
    const log = recorder();
    const phases = [0, 1, 2, 3].map(n =>
      phase(`p${n}`, async state => {
        if (n === at) throw new KilnError('StepFailed', 'no');
        return { state };
      }),
    );
    await assert.rejects(fold(phases, context(), log), (error: KilnError) => error.target === `customize: p${at}`);
    const before = Array.from({ length: at }, (_, n) => [`start ${n}`, `done ${n}`]).flat();
    const skipped = [0, 1, 2, 3].slice(at + 1).map(n => `skip ${n}`);
    assert.deepEqual(log.seen, [...before, `start ${at}`, `failed ${at} StepFailed`, ...skipped]);
  }
});

test('an abort surfaces as its reason, whatever the phase made of it', async () => {
  const controller = new AbortController();
  const log = recorder();
  const phases = [
    phase('p', async () => {
      controller.abort(new KilnError('Canceled', 'by hand'));
      throw new Error('ssh: channel closed');
    }),
  ];
  await assert.rejects(fold(phases, context(controller.signal), log), { code: 'Canceled', message: 'by hand' });
  assert.deepEqual(log.seen, ['start 0', 'failed 0 Canceled']);
});

const fails = async (): Promise<never> => {
  throw new KilnError('DistributionFailed', 'no');
};

test('of independent phases, each that can runs; which failed does not change what the others are', async () => {
  const all = fc.array(fc.boolean(), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(all, async works => {
      const log = recorder();
      const before = phase('before', async state => ({
        state: { ...state, identity: { machineId: 'm', hostKeys: [] } },
      }));
      const given: unknown[] = [];
      const targets = works.map((well, n) => ({
        ...phase(`t${n}`, async state => {
          given.push(state.identity?.machineId);
          return well ? { state } : fails();
        }),
        kind: 'distribute' as const,
        onFailure: 'next' as const,
      }));
      const { ends } = await fold([before, ...targets], context(), log);
      assert.deepEqual(
        ends.slice(1).map(({ state, error }) => [state, error?.target]),
        works.map((well, n) => (well ? ['Succeeded', undefined] : ['Failed', `distribute: t${n}`])),
      );
      assert.ok(given.length === works.length && given.every(id => id === 'm'));
      assert.ok(!log.seen.some(line => line.startsWith('skip')));
    }),
  );
});

test('an abort ends independent phases too', async () => {
  const controller = new AbortController();
  const log = recorder();
  const independent = (name: string, run: Phase['run']): Phase => ({ ...phase(name, run), onFailure: 'next' });
  const phases = [
    independent('first', fails),
    independent('second', async () => {
      controller.abort(new KilnError('Timeout', 'too late'));
      throw new Error('the copy was interrupted');
    }),
    independent('third', async state => ({ state })),
  ];
  await assert.rejects(fold(phases, context(controller.signal), log), { code: 'Timeout' });
  assert.deepEqual(log.seen.slice(2), ['start 1', 'failed 1 Timeout', 'skip 2']);
});

test('lanes run at once, the phases of one lane in order; what one of them cannot does not hold up the others', async () => {
  const log = recorder();
  const said: string[] = [];
  let meet = () => {};
  const met = new Promise<void>(resolve => {
    meet = resolve;
  });
  const order: string[] = [];
  const target = (name: string, lane: string, work: () => Promise<unknown>): Phase => ({
    ...phase(name, undefined, 'distribute'),
    onFailure: 'next',
    lane,
    async run(state, { log: own }) {
      own.say(name);
      await work();
      order.push(name);
      return { state };
    },
  });
  const { ends } = await fold(
    [
      phase('before'),
      target('a1', 'a', () => met),
      target('b1', 'b', fails),
      target('a2', 'a', async () => {}),
      target('b2', 'b', async () => meet()),
    ],
    context(undefined, said),
    log,
  );
  // One after the other, `a1` would wait for ever.
  assert.deepEqual(order.toSorted(), ['a1', 'a2', 'b2']);
  assert.ok(order.indexOf('a1') < order.indexOf('a2'));
  assert.deepEqual(
    ends.map(({ name, state }) => `${name} ${state}`),
    ['before Succeeded', 'a1 Succeeded', 'b1 Failed', 'a2 Succeeded', 'b2 Succeeded'],
  );
  assert.deepEqual(said.toSorted(), ['1: a1', '2: b1', '3: a2', '4: b2']);
  assert.equal(new Set(log.keys).size, 5);
});

test('a target that is published and cannot be recorded has not failed; it is recorded again when all have come to rest', async () => {
  const log = recorder();
  let resting = false;
  const target = (name: string, wait: number): Phase => ({
    ...phase(name, undefined, 'distribute'),
    onFailure: 'next',
    lane: name,
    async run(state) {
      await new Promise(resolve => setTimeout(resolve, wait));
      resting = name === 'b';
      return { state };
    },
  });
  const told: string[] = [];
  const { ends } = await fold([target('a', 1), target('b', 20)], context(), {
    ...log,
    async succeeded(index) {
      if (index === 0 && !resting) throw new Error('The database is away.');
      told.push(`done ${index}`);
    },
  });
  assert.deepEqual(
    ends.map(({ state }) => state),
    ['Succeeded', 'Succeeded'],
  );
  assert.deepEqual(told, ['done 1', 'done 0']);
  assert.deepEqual(log.seen, ['start 0', 'start 1']);
});

test('an abort ends all lanes, and is told when they have come to rest', async () => {
  const controller = new AbortController();
  const log = recorder();
  let resting = false;
  const target = (name: string, lane: string, run: Phase['run']): Phase => ({
    ...phase(name, run, 'distribute'),
    onFailure: 'next',
    lane,
  });
  const phases = [
    target('a1', 'a', async () => {
      // By now the other one runs.
      await new Promise(resolve => setTimeout(resolve, 1));
      controller.abort(new KilnError('Canceled', 'by hand'));
      throw new Error('cut off');
    }),
    target('a2', 'a', async state => ({ state })),
    target('b1', 'b', async () => {
      await new Promise(resolve => setTimeout(resolve, 20));
      resting = true;
      throw new Error('cut off');
    }),
  ];
  await assert.rejects(fold(phases, context(controller.signal), log), { code: 'Canceled', message: 'by hand' });
  assert.ok(resting);
  assert.deepEqual(
    log.seen.filter(line => !line.startsWith('start')),
    ['failed 0 Canceled', 'skip 1', 'failed 2 Canceled'],
  );
});

test('a failure may skip its own kind only; what it would have made is not in later keys', async () => {
  const keysOf = async (checks: readonly Phase[]) => {
    const log = recorder();
    const folded = await fold([phase('a'), ...checks, phase('z', undefined, 'distribute')], context(), log);
    return { ...folded, log, last: log.keys.at(-1) };
  };
  const check = (name: string, run?: Phase['run']): Phase => ({
    ...phase(name, run, 'validate'),
    onFailure: 'next kind',
  });
  const failed = await keysOf([check('bad', fails), check('never')]);
  assert.deepEqual(
    failed.ends.map(({ state }) => state),
    ['Succeeded', 'Failed', 'Skipped', 'Succeeded'],
  );
  assert.deepEqual(failed.log.seen.slice(2), ['start 1', 'failed 1 DistributionFailed', 'skip 2', 'start 3', 'done 3']);
  assert.equal(failed.last, (await keysOf([])).last);
  assert.notEqual(failed.last, (await keysOf([check('good')])).last);
});

test('a source is recorded under the key of what it turned out to be, which the plan shows', async () => {
  const recorded: string[] = [];
  const log = { ...recorder(), succeeded: async (...[, , , key]: unknown[]) => void recorded.push(key as string) };
  const content = { sha256: '1' };
  const phases = [phase('a:latest', async state => ({ state, content }), 'source'), phase('step')];
  await fold(phases, context(), log);
  assert.deepEqual(recorded, keysOf(phases, sourceKey(phases[0]!, content)));
});

test('keys depend on what a source turned out to be, not on what it was called', async () => {
  const keysOf = async (reference: string, sha256: string) => {
    const log = recorder();
    const source = phase(reference, async state => ({ state, content: { sha256 } }), 'source');
    await fold([source, phase('step')], context(), log);
    return log.keys[1];
  };
  assert.equal(await keysOf('a:latest', '1'), await keysOf('a:1.0', '1'));
  assert.notEqual(await keysOf('a:latest', '1'), await keysOf('a:latest', '2'));
});

test('a change of any input or of the parent changes a key; the order of fields does not', () => {
  const inputs = fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.array(fc.string())));
  const plan = (values: Record<string, unknown>) => ({ kind: 'customize' as const, name: 'n', inputs: values });
  fc.assert(
    fc.property(inputs, fc.string(), (values, parent) => {
      const reordered = Object.fromEntries(Object.entries(values).reverse());
      assert.equal(layerKey(parent, plan(values)), layerKey(parent, plan(reordered)));
      assert.notEqual(layerKey(parent, plan(values)), layerKey(`${parent}x`, plan(values)));
      assert.notEqual(layerKey(parent, plan(values)), layerKey(parent, plan({ ...values, 'an input more': 1 })));
      for (const name of Object.keys(values))
        assert.notEqual(layerKey(parent, plan(values)), layerKey(parent, plan({ ...values, [name]: [values[name]] })));
    }),
  );
});
