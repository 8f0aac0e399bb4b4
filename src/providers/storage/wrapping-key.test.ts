import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openWrappingKey, wrappingKey } from './wrapping-key.ts';

test('what is sealed opens for its owner alone, unchanged, with the same key', () => {
  const key = wrappingKey(randomBytes(32));
  const secret = randomBytes(64);
  const sealed = key.seal(secret, '/accounts/a key1');
  assert.deepEqual(key.open(sealed, '/accounts/a key1'), secret);
  assert.ok(!sealed.includes(secret.subarray(0, 8)));
  assert.notDeepEqual(key.seal(secret, '/accounts/a key1'), sealed);
  const refused = { code: 'StateUnwritable', message: 'A key of /accounts/b cannot be decrypted.' };
  assert.throws(() => key.open(sealed, '/accounts/b key1'), refused);
  assert.throws(() => wrappingKey(randomBytes(32)).open(sealed, '/accounts/a key1'), { code: 'StateUnwritable' });
  for (let index = 0; index < sealed.length; index++) {
    const changed = Buffer.from(sealed);
    changed[index]! ^= 1;
    assert.throws(() => key.open(changed, '/accounts/a key1'), { code: 'StateUnwritable' });
  }
  assert.throws(() => key.open(Buffer.alloc(0), ''), { code: 'StateUnwritable' });
});

test('the key is a file of the state directory, made once, for its owner', async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-wrapping-'));
  try {
    const [first, second] = await Promise.all([openWrappingKey({ root }), openWrappingKey({ root })]);
    assert.equal(first.id, second.id);
    const path = join(root, 'storage.key');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.doesNotMatch(await readFile(path, 'utf8'), new RegExp(first.id));
    await writeFile(path, 'short');
    await assert.rejects(openWrappingKey({ root }), { code: 'StateUnwritable' });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
