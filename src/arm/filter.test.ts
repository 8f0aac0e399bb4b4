import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KilnError } from './errors.ts';
import { matches, parseFilter } from './filter.ts';

const item = (fields: Record<string, string>) => ({
  is: (field: string, value: string) => fields[field]?.toLowerCase() === value.toLowerCase(),
  call: (name: string, [first = '', second = '']: readonly string[]) =>
    name === 'substringof' && (fields[second] ?? '').includes(first),
});

test('comparisons, functions and their combinations', () => {
  const web = item({ name: 'web-01', type: 'M.C/images', owner: "o'neill" });
  for (const [text, expected] of [
    ["name eq 'web-01'", true],
    ["Name EQ 'WEB-01'", true],
    ["name ne 'web-01'", false],
    ["name eq 'x' or type eq 'M.C/images'", true],
    ["name eq 'web-01' and type eq 'x'", false],
    ["name eq 'x' and name eq 'y' or type eq 'm.c/images'", true],
    ["name eq 'x' and (name eq 'y' or type eq 'm.c/images')", false],
    ["not (name eq 'x')", true],
    ["substringof('web', name)", true],
    ["substringof('db', name)", false],
    ["owner eq 'o''neill'", true],
  ] as const)
    assert.equal(matches(parseFilter(text), web), expected, text);
});

test('what is no filter is refused', () => {
  for (const text of [
    '',
    'name',
    'name eq',
    'name eq web',
    "name eq 'web",
    "(name eq 'web'",
    "name eq 'a' 'b'",
    "name gt 'a'",
    "f('a'",
    "f(,'a')",
    `${'('.repeat(500)}name eq 'a'${')'.repeat(500)}`,
    `${'not '.repeat(5000)}name eq 'a'`,
  ])
    assert.throws(() => parseFilter(text), { code: 'InvalidFilterInQueryString' }, text.slice(0, 40));
});

test('any text is read or refused', () => {
  const word = fc.constantFrom('name', 'eq', 'ne', 'and', 'or', 'not', '(', ')', ',', "'a'", "''", ' ', "'", 'f');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(word).map(words => words.join(' ')),
      ),
      text => {
        try {
          matches(parseFilter(text), item({}));
        } catch (error) {
          assert.ok(error instanceof KilnError, String(error));
        }
      },
    ),
  );
});
