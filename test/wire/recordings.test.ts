/** What tells our answers from the recorded ones, on small cases. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { differences, masked, Words } from './recordings.ts';

const A = '1111111a-1111-4111-8111-111111111111';
const B = '2222222b-2222-4222-8222-222222222222';

test('what differs from run to run is masked, what means something is not', () => {
  assert.deepEqual(
    masked({
      id: `/x/${A.toUpperCase()}`,
      startTime: '2022-08-31T07:02:41.196184665Z',
      endTime: '0001-01-01T00:00:00Z',
      group: `/subscriptions/s/resourceGroups/IT_img_tmpl_cancel_fqx2337q7mflsbetkju3zeij_${A}`,
      [A]: ['Running', 0, null],
    }),
    {
      id: '/x/<GUID>',
      startTime: '<time>',
      endTime: '0001-01-01T00:00:00Z',
      group: '/subscriptions/s/resourceGroups/<staging group>',
      '<guid>': ['Running', 0, null],
    },
  );
});

test('a staging group of another form is no staging group', () => {
  assert.notEqual(masked(`/IT_${'x'.repeat(41)}_${A}`), '/<staging group>');
  assert.equal(masked(`/XY_a_b_${A}`), '/XY_a_b_<guid>');
});

test('every difference is told with its place', () => {
  assert.deepEqual(differences({ a: [1, { b: 2 }] }, { a: [1, { b: 2 }] }), []);
  assert.deepEqual(differences({ a: [1, { b: 2 }], c: 0 }, { a: [1, { b: '2' }], d: null }), [
    'a.1.b: recorded 2, ours "2"',
    'c: recorded 0, ours nothing',
    'd: recorded nothing, ours null',
  ]);
  assert.deepEqual(differences([1], { 0: 1 }), ['the body: recorded [1], ours {"0":1}']);
});

test('words are learnt from two answers and put into what follows', () => {
  const words = new Words();
  words.learn(
    { properties: { principalId: A }, url: `/operations/${A.toUpperCase()}?x`, artifactId: '/versions/0.25542.3873' },
    { properties: { principalId: B }, url: `/operations/${B}?x`, artifactId: '/versions/0.26000.1' },
  );
  assert.equal(
    words.translate(`p ${A} ${A.toUpperCase()} /versions/0.25542.3873`),
    `p ${B} ${B.toUpperCase()} /versions/0.26000.1`,
  );
  assert.deepEqual(words.translateJson({ a: A }), { a: B });
});
