import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Crc64 } from './crc64.ts';

const digest = (text: string) => new Crc64().update(Buffer.from(text)).digest();

test('the check value of CRC-64/NVME', () => {
  assert.equal(digest('123456789').readBigUInt64LE(), 0xae8b14860a799888n);
  assert.equal(digest('').readBigUInt64LE(), 0n);
});

test('parts give what the whole gives', () => {
  const parts = new Crc64().update(Buffer.from('1234')).update(Buffer.from('')).update(Buffer.from('56789'));
  assert.deepEqual(parts.digest(), digest('123456789'));
});
