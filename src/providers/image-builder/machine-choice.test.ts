import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chosenMachine, MACHINE_POLICIES, type MachinePolicy, machineAskedFor } from './machine-choice.ts';

const tagged = (word?: string) => ({ tags: word === undefined ? {} : { 'kiln.machine': word } });

test('policy and tag', () => {
  const table: readonly [MachinePolicy, string | undefined, 'qemu' | 'container' | 'NotSupported'][] = [
    ['vm', undefined, 'qemu'],
    ['vm', 'vm', 'qemu'],
    ['vm', 'container', 'NotSupported'],
    ['template', undefined, 'qemu'],
    ['template', 'VM', 'qemu'],
    ['template', 'Container', 'container'],
    ['container', undefined, 'container'],
    ['container', 'vm', 'qemu'],
    ['container', 'container', 'container'],
  ];
  for (const [policy, word, expected] of table)
    if (expected === 'NotSupported')
      assert.throws(() => chosenMachine(tagged(word), { policy }), {
        code: 'NotSupported',
        target: "tags['kiln.machine']",
      });
    else assert.equal(chosenMachine(tagged(word), { policy }), expected, `${policy} ${word}`);
});

test('what is asked for with one build wins, whatever the tag says', () => {
  for (const policy of MACHINE_POLICIES)
    for (const word of [undefined, 'vm', 'container', 'nonsense'])
      assert.equal(chosenMachine(tagged(word), { asked: 'container', policy }), 'container');
});

test('a word that means nothing is refused', () => {
  for (const word of ['', 'qemu', 'constructor', '__proto__'])
    assert.throws(() => chosenMachine(tagged(word), { policy: 'template' }), { code: 'ValidationFailed' });
});

test('who builds at this host has to ask for a container', () => {
  for (const word of [undefined, 'vm']) assert.equal(machineAskedFor(tagged(word), undefined), 'qemu');
  assert.throws(() => machineAskedFor(tagged('container'), undefined), {
    code: 'NotSupported',
    hint: /--machine container/,
  });
  assert.equal(machineAskedFor(tagged('container'), 'template'), 'container');
  assert.equal(machineAskedFor(tagged('container'), 'vm'), 'qemu');
  assert.equal(machineAskedFor(tagged('vm'), 'container'), 'container');
});
