import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isOwn } from './own-door.ts';

const storageToken = async () => undefined;

test('only the door itself is the server’s own', () => {
  const door = { origin: 'https://kiln.example.org', address: '127.0.0.1', port: 8443, certificate: '', storageToken };
  for (const own of [
    'https://kiln.example.org/acct/box/a.sh?sig=x',
    'https://acct.blob.kiln.example.org/box/a.sh',
    'https://ACCT.blob.core.localhost:8443/box/a.sh',
    'https://127.0.0.1:8443/acct/box/a.sh',
  ])
    assert.ok(isOwn(new URL(own), door), own);
  for (const other of [
    'http://kiln.example.org/acct/box/a.sh',
    'https://kiln.example.org:8443/acct/box/a.sh',
    'https://127.0.0.1/acct/box/a.sh',
    'https://127.0.0.1:22/acct/box/a.sh',
    'https://user:secret@127.0.0.1:8443/acct/box/a.sh',
    'https://acct.blob.core.windows.net/box/a.sh',
    'https://kiln.example.org.evil.example/acct/box/a.sh',
    'https://a.b.blob.kiln.example.org/box/a.sh',
    'file:///etc/passwd',
  ])
    assert.ok(!isOwn(new URL(other), door), other);
});
