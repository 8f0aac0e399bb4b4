import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KilnError } from '../arm/errors.ts';
import { bytes, duration, printable, renderError, renderErrorJson, table } from './terminal.ts';

test('sizes have three digits at most and binary units', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 KiB'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [10.4 * 1024, '10 KiB'],
    [750 * 1024 ** 2, '750 MiB'],
    [3 * 1024 ** 3, '3 GiB'],
    [5000 * 1024 ** 4, '5000 TiB'],
  ];
  for (const [count, text] of cases) assert.equal(bytes(count), text);
});

test('durations grow from tenths of seconds to hours', () => {
  const cases: [number, string][] = [
    [0, '0.0 s'],
    [449, '0.4 s'],
    [9949, '9.9 s'],
    [9950, '10 s'],
    [42_400, '42 s'],
    [59_900, '1 min 00 s'],
    [185_000, '3 min 05 s'],
    [3_600_000, '1 h 00 min'],
    [3_725_000, '1 h 02 min'],
  ];
  for (const [milliseconds, text] of cases) assert.equal(duration(milliseconds), text);
});

test('durations never show sixty of anything', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 59 * 3_600_000 }), milliseconds => {
      assert.doesNotMatch(duration(milliseconds), /\b60\b/);
    }),
    { examples: [[3_599_900], [59_999]] },
  );
});

test('a table aligns its columns, colours count nothing, and no line ends with a space', () => {
  const rows = [
    ['phase', 'time', 'note'],
    ['\x1b[32mboot\x1b[39m', '37 s', ''],
    ['generalize', '4 s', 'x'],
  ];
  assert.equal(
    table(rows, { right: [1] }),
    'phase       time  note\n\x1b[32mboot\x1b[39m        37 s\ngeneralize   4 s  x\n',
  );
});

test('text from outside cannot command the terminal', () => {
  assert.equal(printable('a\x1b[2Jb\x1b]0;title\x07c\rd\x9be\tf\n'), 'abcde\tf\n');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      assert.doesNotMatch(printable(text), /[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
    }),
  );
});

test('an error says what, where, each detail with its path, and what to do', () => {
  const error = new KilnError('ValidationFailed', 'The template has 1 error.', {
    target: 'template.json',
    hint: 'Mend it.',
    details: [new KilnError('ValidationFailed', 'must be a string', { target: '$.properties.source.sku' })],
  });
  assert.equal(
    renderError(error).replace(/\x1b\[\d+m/g, ''),
    [
      'error: The template has 1 error.',
      '  at: template.json',
      '  - $.properties.source.sku: must be a string',
      '  hint: Mend it.',
      '',
    ].join('\n'),
  );
  assert.deepEqual(JSON.parse(renderErrorJson(error)).error.details[0].target, '$.properties.source.sku');
});

test('what is wrong is told once, though the first of several problems is the message as well', () => {
  const problem = (name: string) =>
    new KilnError('ValidationFailed', `${name} is bad.`, { target: name, hint: `Mend ${name}.` });
  const several = new KilnError('ValidationFailed', 'a is bad.', {
    target: 'a',
    hint: 'Mend a.',
    details: [problem('a'), problem('b')],
  });
  assert.equal(
    renderError(several).replace(/\x1b\[\d+m/g, ''),
    'error: 2 problems:\n  - a: a is bad.\n      Mend a.\n  - b: b is bad.\n      Mend b.\n',
  );
  const one = new KilnError('ValidationFailed', 'a is bad.', { target: 'a', hint: 'Mend a.', details: [problem('a')] });
  assert.equal(renderError(one).replace(/\x1b\[\d+m/g, ''), 'error: a is bad.\n  at: a\n  hint: Mend a.\n');
});

test('an error without a hint takes the remedy of its catalogue entry; a defect is called one', () => {
  assert.match(renderError(new KilnError('DiskFull', 'No space.')), /Free space/);
  const defect = renderError(new TypeError('x is undefined'));
  assert.match(defect, /x is undefined/);
  assert.match(defect, /defect of Kiln/);
  assert.match(defect, /KILN_DEBUG=1/);
  assert.doesNotMatch(defect, /terminal\.test\.ts/);
});
