import assert from 'node:assert/strict';
import { test } from 'node:test';
import { identityIn } from './generalize.ts';

const id = '0123456789abcdef0123456789abcdef';
const keys = ['ecdsa-sha2-nistp256 AAAAE2VjZHNh', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5'];

test('who a machine is is found by its looks, among what else is printed', () => {
  assert.deepEqual(identityIn([id, ...keys]), { machineId: id, hostKeys: keys });
  assert.deepEqual(identityIn(['Welcome to our image.', '', id, ...keys]), { machineId: id, hostKeys: keys });
});

test('where a template has emptied the machine-id or removed the keys, none is taken for the other', () => {
  assert.deepEqual(identityIn(['', ...keys]), { machineId: '', hostKeys: keys });
  assert.deepEqual(identityIn(keys), { machineId: '', hostKeys: keys });
  assert.deepEqual(identityIn(['uninitialized']), { machineId: '', hostKeys: [] });
  assert.deepEqual(identityIn([]), { machineId: '', hostKeys: [] });
});
