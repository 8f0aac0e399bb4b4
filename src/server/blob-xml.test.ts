import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readXml } from './blob-xml.ts';

const refused = { status: 400, code: 'InvalidXmlDocument' };

test('the longest list of blocks is read', () => {
  const id = Buffer.alloc(64, 1).toString('base64');
  const list = `<?xml version="1.0" encoding="utf-8"?>\n<BlockList>${`\n  <Uncommitted>${id}</Uncommitted>`.repeat(50_000)}\n</BlockList>`;
  const { name, children } = readXml(list);
  assert.deepEqual([name, children.length, children.at(-1)?.text], ['BlockList', 50_000, id]);
});

test('what takes long to read, and what names other text, is refused', () => {
  for (const inside of [
    '<a/>'.repeat(150_000),
    '<!---->'.repeat(150_000),
    '&amp;'.repeat(30_000),
    `<a ${Array.from({ length: 15_000 }, (_, index) => `b${index}="c"`).join(' ')}/>`,
    '<a>'.repeat(100) + '</a>'.repeat(100),
  ])
    assert.throws(() => readXml(`<BlockList>${inside}</BlockList>`), refused, inside.slice(0, 20));
  for (const text of ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', '<a/><b/>', '<a>', ''])
    assert.throws(() => readXml(text), refused, text);
});
