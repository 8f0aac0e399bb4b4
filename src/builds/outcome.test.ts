import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorCode } from '../arm/errors.ts';
import { distributionError, isDistributionError, outcomeOf, type PhaseEnd } from './outcome.ts';

const end = (kind: PhaseEnd['kind'], name: string, code?: ErrorCode, message = 'It went wrong.'): PhaseEnd => ({
  kind,
  name,
  state: code === undefined ? 'Succeeded' : code === 'Canceled' ? 'Canceled' : 'Failed',
  error: code === undefined ? null : { code, message },
});
const skipped = (kind: PhaseEnd['kind'], name: string): PhaseEnd => ({ kind, name, state: 'Skipped', error: null });
const built = [end('source', 's'), end('customize', '1/1 Shell'), end('capture', 'c')];
const errorOf = (phases: readonly PhaseEnd[]) => {
  const outcome = outcomeOf(phases);
  assert.notEqual(outcome.state, 'Succeeded');
  return outcome as Exclude<typeof outcome, { state: 'Succeeded' }>;
};

test('all is well when every phase is', () => {
  assert.deepEqual(outcomeOf([...built, end('distribute', 'VHD')]), { state: 'Succeeded' });
  assert.deepEqual(outcomeOf([end('source', 's'), end('validate', 'v')]), { state: 'Succeeded' });
});

test("some targets make a run partial; Azure's sentence names those that are missing", () => {
  const { state, error } = errorOf([
    ...built,
    end('distribute', 'VHD "v"'),
    end('distribute', 'ManagedImage "m"', 'DistributionFailed', 'ManagedImage "m" could not be published: EIO'),
    end('distribute', 'SharedImage "g/d"', 'Conflict', 'The image version 1.0.0 exists already.'),
  ]);
  assert.equal(state, 'PartiallySucceeded');
  assert.equal(error.code, 'DistributionFailed');
  assert.equal(
    error.message,
    'Failed in distributing 2 images out of total 3: {[Error 0] [Distribute 1] ManagedImage "m" could not be published: EIO ' +
      '[Error 1] [Distribute 2] SharedImage "g/d": The image version 1.0.0 exists already.}',
  );
  assert.ok(isDistributionError(error));
  assert.deepEqual(
    error.details?.map(({ target, code }) => [target, code]),
    [
      ['properties.distribute[1]', 'DistributionFailed'],
      ['properties.distribute[2]', 'Conflict'],
    ],
  );
});

test('no target at all is a failure; one reason for all of them stays the reason', () => {
  const one = errorOf([...built, end('distribute', 'a', 'DiskFull'), end('distribute', 'b', 'DiskFull')]);
  assert.deepEqual([one.state, one.error.code], ['Failed', 'DiskFull']);
  const several = errorOf([...built, end('distribute', 'a', 'DiskFull'), end('distribute', 'b', 'Conflict')]);
  assert.deepEqual([several.state, several.error.code], ['Failed', 'DistributionFailed']);
  const single = errorOf([...built, end('distribute', 'a', 'Conflict', 'taken')]);
  assert.equal(
    single.error.message,
    'Failed in distributing 1 images out of total 1: {[Error 0] [Distribute 0] a: taken}',
  );
  assert.equal(single.error.target, 'properties.distribute[0]');
});

test('a failed validator fails the run whatever was distributed, and is what is told', () => {
  const validator = end('validate', '1/2 Shell', 'StepFailed', 'Validator 1/2 Shell failed with exit code 3.');
  const both = [...built, validator, skipped('validate', '2/2 Shell')];
  const all = errorOf([...both, end('distribute', 'a')]);
  assert.deepEqual([all.state, all.error.code, all.error.details], ['Failed', 'StepFailed', undefined]);
  const some = errorOf([...both, end('distribute', 'a'), end('distribute', 'b', 'Conflict')]);
  assert.deepEqual([some.state, some.error.message], ['Failed', validator.error!.message]);
  assert.match(some.error.details?.[0]?.message ?? '', /^Failed in distributing 1 images out of total 2: /);
  const none = errorOf([...both, skipped('distribute', 'a')]);
  assert.deepEqual([none.state, none.error.code], ['Failed', 'StepFailed']);
});

test('the clock takes nothing back: what is published makes the run partial, what was not begun has failed too', () => {
  const targets = [
    end('distribute', 'A'),
    end('distribute', 'B', 'Timeout', 'It took longer than the 60 s that it may take.'),
    skipped('distribute', 'C'),
  ];
  const { state, error } = errorOf([...built, ...targets]);
  assert.deepEqual([state, error.code], ['PartiallySucceeded', 'Timeout']);
  const reason = 'context deadline exceeded: It took longer than the 60 s that it may take.';
  assert.equal(
    distributionError(targets).message,
    `Failed in distributing 2 images out of total 3: {[Error 0] [Distribute 1] B: ${reason} [Error 1] [Distribute 2] C: ${reason}}`,
  );
  assert.equal(errorOf([...built, ...targets.slice(1)]).state, 'Failed');
});

test('what ends a build is told before anything that failed on the way', () => {
  const phases = (code: ErrorCode) => [
    ...built,
    end('validate', 'v', 'StepFailed'),
    end('distribute', 'a', 'DistributionFailed'),
    end('distribute', 'b', code),
    skipped('distribute', 'c'),
  ];
  for (const [code, state] of [
    ['Canceled', 'Canceled'],
    ['Timeout', 'Failed'],
    ['WorkerLost', 'Failed'],
  ] as const) {
    const outcome = errorOf(phases(code));
    assert.deepEqual([outcome.state, outcome.error.code], [state, code]);
  }
});
