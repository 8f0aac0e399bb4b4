import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filesCredential, userCredential } from './credentials.ts';
import { newIdentity } from './identity.ts';

const identity = newIdentity();
const decoded = (text: string) => Buffer.from(text.slice(text.indexOf('=') + 1), 'base64').toString();

test('credentials make the build user, its key and the host key, and hold nothing else', () => {
  assert.match(decoded(userCredential(identity)), /^u kiln 1000 "Kiln build user" \/home\/kiln \/bin\/bash\n$/);
  const lines = decoded(filesCredential(identity)).trim().split('\n');
  const content = (path: string) =>
    Buffer.from(
      lines
        .find(line => line.startsWith(`f+~ ${path} `))!
        .split(' ')
        .at(-1)!,
      'base64',
    ).toString();
  assert.equal(content('/home/kiln/.ssh/authorized_keys'), `${identity.login.publicKey}\n`);
  assert.equal(content('/etc/ssh/ssh_host_ed25519_key'), identity.host.privateKey);
  assert.ok(!lines.join('').includes(Buffer.from(identity.login.privateKey).toString('base64')));
});

test('the strings hold neither commas, which QEMU splits at, nor line breaks', () => {
  for (const text of [userCredential(identity), filesCredential(identity)]) assert.match(text, /^[\w.:=+/]+$/);
});
