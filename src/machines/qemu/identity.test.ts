import assert from 'node:assert/strict';
import { test } from 'node:test';
import ssh2 from 'ssh2';
import { newIdentity } from './identity.ts';

test('every key can be read, signs, and belongs to its other half', () => {
  const message = Buffer.from('proof');
  // One faulty pair in 256 was the rule of the library: none in 1,000 is no chance.
  for (let count = 0; count < 500; count++)
    for (const pair of [newIdentity().host, newIdentity().login]) {
      const [secret, known] = [ssh2.utils.parseKey(pair.privateKey), ssh2.utils.parseKey(pair.publicKey)];
      assert.ok(!(secret instanceof Error) && !(known instanceof Error), pair.publicKey);
      const signature = (Array.isArray(secret) ? secret[0] : secret).sign(message);
      assert.equal((Array.isArray(known) ? known[0] : known).verify(message, signature), true);
    }
});
