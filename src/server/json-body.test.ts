import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseBody } from './json-body.ts';

const parse = (text: string) => parseBody(Buffer.from(text), 'application/json');
const nested = (levels: number, inner: string) => `${'[{"a":'.repeat(levels / 2)}${inner}${'}]'.repeat(levels / 2)}`;

test('a body may be nested 64 levels deep, whatever its texts look like', () => {
  for (const inner of ['1', '"[[[{{{"', '"\\"[[["', '"\\\\"', '"[\\\\\\"["']) {
    assert.deepEqual(parse(nested(64, inner)), JSON.parse(nested(64, inner)));
    assert.throws(() => parse(nested(66, inner)), { code: 'InvalidRequestContent', message: /64 levels deep/ });
  }
  assert.throws(() => parse(nested(64, '[]')), { message: /64 levels deep/ });
  assert.throws(() => parse(`${'['.repeat(500_000)}${']'.repeat(500_000)}`), { message: /64 levels deep/ });
  assert.deepEqual(parse(`[${'[],'.repeat(1000)}[]]`), Array(1001).fill([]));
});

test('what is no JSON in UTF-8 is refused', () => {
  for (const bytes of [Buffer.from('{'), Buffer.from([0x22, 0xff, 0x22]), Buffer.from("{'a': 1}")])
    assert.throws(() => parseBody(bytes, undefined), { code: 'InvalidRequestContent' });
  assert.throws(() => parseBody(Buffer.from('{}'), 'text/plain'), { code: 'UnsupportedMediaType' });
  assert.equal(parseBody(Buffer.alloc(0), undefined), undefined);
});
