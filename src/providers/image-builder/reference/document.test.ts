/** The reference of templates: every property has a row, every row a property, and the file in docs/ is what they make. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type TSchema, Type } from '@sinclair/typebox';
import { variants } from '../../../arm/shape.ts';
import { REFERENCE_DOCUMENT, renderReference } from './document.ts';
import { templateProperties } from './properties.ts';
import { SECTIONS } from './texts.ts';

const rows = SECTIONS.flatMap(section => Object.entries(section.rows));

test('every property of the schema has a row, once, and every row a property', () => {
  const paths = templateProperties().map(({ path }) => path);
  assert.ok(paths.length > 100, `${paths.length} properties`);
  const told = rows.map(([path]) => path);
  assert.deepEqual(
    paths.filter(path => !told.includes(path)),
    [],
    'properties without a row in texts*.ts',
  );
  assert.deepEqual(
    told.filter(path => !paths.includes(path)),
    [],
    'rows of properties that there are not',
  );
  assert.equal(new Set(told).size, told.length, 'a property has two rows');
});

test('rows are sentences', () => {
  for (const [path, texts] of rows)
    for (const text of texts) assert.match(text ?? 'None.', /^\S.*\.$/s, `${path}: ${text}`);
});

test('docs/template-reference.md agrees with them (else: node src/providers/image-builder/reference/document.ts)', () => {
  assert.equal(readFileSync(REFERENCE_DOCUMENT, 'utf8'), renderReference());
});

test('the list goes into lists, maps and kinds, and a part is no older than what it is in', () => {
  const schema: TSchema = Type.Object({
    a: Type.Optional(
      Type.Array(
        variants('kind', [
          Type.Object({ kind: Type.Literal('X'), n: Type.Optional(Type.Integer({ minimum: 1, maximum: 9 })) }),
          Type.Object({ kind: Type.Literal('Y'), b: Type.Boolean({ since: '2020-02-14' }) }, { since: '2022-02-14' }),
        ]),
        { since: '2021-10-01' },
      ),
    ),
    m: Type.Record(Type.String(), Type.Object({ r: Type.Optional(Type.Unknown({ readOnly: true })) })),
  });
  assert.deepEqual(
    templateProperties(schema).map(({ path, type, since, required, readOnly }) =>
      [path, type, since, required ? 'required' : '', readOnly ? 'read-only' : ''].join(' ').trimEnd(),
    ),
    [
      'a list of object 2021-10-01',
      'a[](X).kind "X" 2021-10-01 required',
      'a[](X).n integer, 1 to 9 2021-10-01',
      'a[](Y).kind "Y" 2022-02-14 required',
      'a[](Y).b boolean 2022-02-14 required',
      'm map of object 2019-05-01-preview required',
      'm.*.r any 2019-05-01-preview  read-only',
    ],
  );
});
