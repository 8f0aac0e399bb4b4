import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseBlobAddress } from './blob-address.ts';

const account = fc.stringMatching(/^[a-z0-9]{3,24}$/);
const segment = fc.string({ minLength: 1, maxLength: 20 }).filter(text => text !== '.' && text !== '..');

test('a blob is found by its path-style and its host-style URL, without the signature in the query', () => {
  fc.assert(
    fc.property(account, segment, fc.array(segment, { minLength: 1, maxLength: 3 }), (name, container, parts) => {
      const path = [container, ...parts].map(encodeURIComponent).join('/');
      const wanted = { account: name, container, blob: parts.join('/') };
      for (const before of [`https://127.0.0.1:8443/${name}`, `https://${name}.blob.localhost:8443`]) {
        const { uri, ...address } = parseBlobAddress(`${before}/${path}?sv=2024&sig=secret`, 'blobUri');
        assert.deepEqual(address, wanted);
        assert.ok(!uri.includes('secret'));
      }
    }),
  );
});

test('what names no blob is refused in the words of Compute, without its query', () => {
  for (const text of [
    'https://localhost/account/container',
    'https://localhost/account/container/',
    'https://account.blob.localhost/container',
    'ftp://localhost/account/container/blob',
    'file:///etc/passwd',
    '/account/container/blob',
    'https://user:password@localhost/account/container/blob',
    'https://localhost/account/container/%ff?sig=secret',
    'https://localhost/not-an-account/container/blob',
  ])
    assert.throws(
      () => parseBlobAddress(text, 'blobUri'),
      (error: Error & { code: string; target: string }) => {
        assert.equal(error.code, 'InvalidParameter');
        assert.equal(error.target, 'blobUri');
        assert.match(error.message, /^The URI .* does not look to be correct blob URI\.$/);
        return !error.message.includes('secret');
      },
      text,
    );
});
