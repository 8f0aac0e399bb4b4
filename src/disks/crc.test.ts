import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { combineCrc32 } from './crc.ts';

test('the sum of two parts is that of the whole', () => {
  const bytes = fc.uint8Array({ maxLength: 2000 });
  fc.assert(
    fc.property(bytes, bytes, (first, second) => {
      const whole = crc32(second, crc32(first));
      assert.equal(combineCrc32(crc32(first), crc32(second), second.length), whole);
    }),
  );
  const long = Buffer.alloc(3 * 1024 * 1024 + 8, 'bytes');
  assert.equal(combineCrc32(crc32('before'), crc32(long), long.length), crc32(long, crc32('before')));
});
