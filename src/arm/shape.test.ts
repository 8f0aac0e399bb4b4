import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Type } from '@sinclair/typebox';
import { MOST_FINDINGS } from './findings.ts';
import { limited, violationError } from './resource-type.ts';
import { oneOf, shape } from './shape.ts';

const Schema = Type.Object({ Name: Type.String(), list: Type.Optional(Type.Array(Type.Integer())) });
const options = { apiVersion: '2024-02-01', caseSensitive: false };
const unknowns = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`u${index}`, 1]));

test('findings are kept to a limit, unknown properties apart from the others, and counted', () => {
  const { findings, leftOut } = shape(Schema, { ...unknowns(250), list: Array(130).fill('x') }, options);
  assert.equal(findings.filter(({ kind }) => kind === 'unknown').length, MOST_FINDINGS);
  assert.equal(findings.filter(({ kind }) => kind === 'value').length, MOST_FINDINGS - 1);
  assert.equal(findings.filter(({ kind }) => kind === 'missing').length, 1);
  assert.deepEqual(leftOut, { unknown: 150, other: 31 });
});

test('where case does not matter the exact spelling wins, then the first', () => {
  assert.deepEqual(shape(Schema, { name: 'a', Name: 'b' }, options).value, { Name: 'b' });
  const { value, findings } = shape(Schema, { nAME: 'first', NAME: 'second' }, options);
  assert.deepEqual(value, { Name: 'first' });
  assert.deepEqual(
    findings.map(({ path }) => path),
    [['NAME']],
  );
});

test('an error has a limited number of details; the last one says how many are missing', () => {
  const violations = Array.from({ length: 130 }, (_, index) => ({ path: `p${index}`, message: `m${index}` }));
  const error = violationError('ValidationFailed', limited(violations, 70));
  assert.equal(error.message, 'm0');
  assert.equal(error.details.length, MOST_FINDINGS);
  assert.equal(error.details.at(-1)!.message, '101 more violations are left out.');
  assert.equal(error.details.at(-1)!.target, undefined);
  assert.equal(violationError('ValidationFailed', violations.slice(0, 100)).details.at(-1)!.message, 'm99');
});

test('a word of a list is taken in any case where case does not matter, and kept in its own', () => {
  const Words = Type.Object({ type: oneOf(['Standard_LRS', 'Premium_LRS']) });
  const read = (type: string, caseSensitive: boolean) =>
    shape(Words, { type }, { apiVersion: '2024-02-01', caseSensitive });
  assert.deepEqual(read('premium_lrs', false), {
    value: { type: 'Premium_LRS' },
    findings: [],
    leftOut: { unknown: 0, other: 0 },
  });
  assert.equal(read('premium_lrs', true).findings[0]!.kind, 'value');
  assert.equal(read('premium', false).findings[0]!.kind, 'value');
});
