import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { errorBody, KilnError } from '../arm/errors.ts';
import { lineSplitter, MAX_LINE } from './log.ts';
import type { Phase, PhaseContext } from './phase.ts';
import { redactedError, redacting, redactor, SENSITIVE, SHORTEST } from './redact.ts';
import { percentDecoded } from './spelling.ts';

/** Of characters that mean something to regular expressions, URLs and terminals too. */
const secret = fc
  .string({
    unit: fc.constantFrom(...'abcAB019+/=%.*[]()|\\^$?{}-_ üß€'),
    minLength: SHORTEST,
    maxLength: 60,
  })
  // What a line of it says counts: a%aaaa is of four bytes.
  .filter(text =>
    percentDecoded(Buffer.from(text.trim()).toString('latin1'))
      .split(/[\r\n]/)
      .some(line => line.trim().length >= SHORTEST),
  );
const chaff = fc.string({ unit: fc.constantFrom(...'xyz \n\t'), maxLength: 20 });

test('no secret comes out of the splitter, however the chunks are cut; all else does', () => {
  fc.assert(
    fc.property(
      fc.array(secret, { minLength: 1, maxLength: 4 }),
      fc.array(fc.tuple(chaff, fc.nat(3)), { maxLength: 30 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      (secrets, pieces, cuts) => {
        const text = pieces.map(([before, which]) => `${before}${secrets[which % secrets.length]}`).join('');
        const splitter = lineSplitter(redactor(secrets));
        const seen: string[] = [];
        const bytes = Buffer.from(text);
        for (let at = 0; at < bytes.length; ) {
          const size = cuts.next().value as number;
          seen.push(...splitter.push(bytes.subarray(at, at + size)));
          at += size;
        }
        seen.push(...splitter.end());
        const shown = seen.join('\n').replaceAll(SENSITIVE, '\0');
        for (const one of secrets)
          assert.ok(!shown.includes(one.trim()), `${JSON.stringify(one)} in ${JSON.stringify(shown)}`);
        const letters = (of: string) => of.replaceAll(/[^xyz]/g, '');
        assert.equal(letters(shown), letters(text));
      },
    ),
  );
});

/** How a character may be written, by those who print a URL, JSON, a page or a command. */
const hex = (text: string, upper: boolean) => (upper ? text.toUpperCase() : text);
const percent = (one: string, upper: boolean) =>
  [...Buffer.from(one)].map(byte => `%${hex(byte.toString(16).padStart(2, '0'), upper)}`).join('');
const units = (one: string, upper: boolean, prefix: string) =>
  one
    .split('')
    .map(unit => `${prefix}u${hex(unit.charCodeAt(0).toString(16).padStart(4, '0'), upper)}`)
    .join('');
const WRITTEN: readonly ((one: string, upper: boolean) => string)[] = [
  one => one,
  percent,
  (one, upper) => percent(one, upper).replaceAll('%', '%25'),
  (one, upper) => units(one, upper, '\\'),
  one => (/[a-z0-9]/i.test(one) ? one : `\\${one}`),
  (one, upper) => `&#${upper ? '0' : ''}${one.codePointAt(0)};`,
  (one, upper) => `&#${upper ? 'X' : 'x'}${hex(one.codePointAt(0)!.toString(16), upper)};`,
  one => ({ '&': '&amp;', '"': '&quot;', '<': '&lt;', "'": '&apos;' })[one] ?? one,
];
const written = (text: string, ways: readonly (readonly [number, boolean])[]) =>
  [...text].map((one, at) => WRITTEN[ways[at % ways.length]![0]]!(one, ways[at % ways.length]![1])).join('');
const someWays = fc.array(fc.tuple(fc.nat(WRITTEN.length - 1), fc.boolean()), { minLength: 1, maxLength: 60 });
/** What stands before may be half of something. */
const neighbour = fc.constantFrom(
  '',
  ' ',
  '"',
  "'",
  '=',
  '%',
  '%2',
  '\\',
  '\\\\',
  '&',
  '&#4',
  'x',
  '%2B',
  '%25',
  '…',
  '\\u00',
);

test('no spelling of a secret comes out, whole or in chunks: in percent signs, as JSON, as HTML, all of it or a part', () => {
  fc.assert(
    fc.property(
      secret,
      fc.array(fc.tuple(fc.nat(1), fc.boolean()), { minLength: 1, maxLength: 60 }),
      someWays,
      fc.array(neighbour, { minLength: 3, maxLength: 3 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      (word, escapes, ways, [before, between, after], cuts) => {
        // As a URL has it: what is in percent signs is undone.
        const meant = word.trim();
        const url = [...meant]
          .map((one, at) => (one === '%' ? '%25' : written(one, [escapes[at % escapes.length]!])))
          .join('');
        const redact = redactor([url]);
        const form = written(meant, ways);
        const text = `${before}${form}${between}${form}${after}`;
        const expected = `${before}${SENSITIVE}${between}${SENSITIVE}${after}`;
        const same = (shown: string) => {
          assert.ok(
            !shown.includes(form) && !shown.includes(meant),
            `${JSON.stringify(form)} in ${JSON.stringify(shown)}`,
          );
          // Neighbours may be read as a part of it.
          if (
            /^[ '"…]$/.test(before!) &&
            /^[ '"…]$/.test(between!) &&
            /^[ '"…]?$/.test(after!) &&
            !/^[ +%&\\-]|[ +-]$/.test(meant)
          )
            assert.equal(shown, expected);
        };
        same(redact(text));
        const stream = redact.stream();
        const bytes = Buffer.from(text);
        const seen: Buffer[] = [];
        const splitter = lineSplitter(redact);
        const lines: string[] = [];
        for (let at = 0; at < bytes.length; ) {
          const size = cuts.next().value as number;
          seen.push(stream.push(bytes.subarray(at, at + size)));
          lines.push(...splitter.push(bytes.subarray(at, at + size)));
          at += size;
        }
        lines.push(...splitter.end());
        for (const line of lines) assert.ok(!line.includes(form) && !line.includes(meant), line);
        same(
          Buffer.concat([...seen, stream.end()])
            .toString()
            .replaceAll(new RegExp(`(${SENSITIVE})+`, 'g'), SENSITIVE),
        );
      },
    ),
    { numRuns: 300 },
  );
});

test('the signature of a URL is found in the other of its forms, and in either case', () => {
  const plain = 'abcd+efgh/ijkl=';
  const forms = [plain, encodeURIComponent(plain), encodeURIComponent(plain).toLowerCase(), 'abcd%2befgh/ijkl%3D'];
  const shown = [...forms, plain.replaceAll('/', '\\/'), 'abcd&#43;efgh&#x2F;ijkl&#61;', 'abcd-efgh_ijkl='];
  for (const given of forms) for (const form of shown) assert.equal(redactor([given])(`<${form}>`), `<${SENSITIVE}>`);
});

test('base64 of a secret hides it from nobody, wherever in the text it stood', () => {
  const word = 'ghp_0123456789abcdefABCDEF';
  fc.assert(
    fc.property(fc.string({ maxLength: 9 }), fc.string({ maxLength: 9 }), fc.boolean(), (before, after, url) => {
      const form = Buffer.from(`${before}${word}${after}`).toString(url ? 'base64url' : 'base64');
      const shown = redactor([word])(`Authorization: Basic ${form}`);
      assert.match(shown, /<sensitive>/);
      const left = shown.replace('Authorization: Basic ', '').replace(SENSITIVE, '');
      assert.ok(left.length <= form.length - Math.floor((word.length * 8) / 6) + 1, left);
    }),
  );
});

test('chunks that are not the beginning of a secret do not wait for the next', () => {
  const stream = redactor(['hunter2hunter2']).stream();
  assert.equal(String(stream.push(Buffer.from('login: '))), 'login: ');
  assert.equal(String(stream.push(Buffer.from('root\nhunter2'))), 'root\n');
  assert.equal(String(stream.push(Buffer.from(' is short; hunter2%68'))), 'hunter2 is short; ');
  assert.equal(String(stream.push(Buffer.from('unter2!'))), `${SENSITIVE}!`);
  const bytes = Buffer.from([0, 0xff, 0xc3, 13, 10]);
  assert.deepEqual(stream.push(bytes), bytes);
  assert.equal(stream.end().length, 0);
});

test('a secret that repeats itself does not pile up', () => {
  const stream = redactor(['aaaaaaaa']).stream();
  const seen: string[] = [];
  for (let n = 0; n < 1000; n++) seen.push(String(stream.push(Buffer.from('aaaaa'))));
  seen.push(String(stream.end()));
  assert.equal(seen.join('').replaceAll(SENSITIVE, ''), '');
});

test('a text that can be read in very many ways does not hold the build', () => {
  const redact = redactor([encodeURIComponent('\\'.repeat(40)), encodeURIComponent('%'.repeat(40))]);
  for (const flood of ['\\'.repeat(39), '%25'.repeat(39), '%'.repeat(39), '&#37'.repeat(39)]) {
    const text = `${flood} `.repeat(20);
    assert.equal(redact(text), text);
  }
});

test('a secret anywhere in a line without end does not come out in two halves', () => {
  const word = 'a-secret-of-some-length';
  const redact = redactor([word]);
  for (let before = 4 * MAX_LINE - 2 * word.length; before < 4 * MAX_LINE + 2 * word.length; before++) {
    const splitter = lineSplitter(redact);
    const text = `${'.'.repeat(before)}${word}${'.'.repeat(4 * MAX_LINE)}`;
    const pieces = [
      ...splitter.push(Buffer.from(text.slice(0, before + 5))),
      ...splitter.push(Buffer.from(text.slice(before + 5))),
      ...splitter.end(),
    ];
    for (const piece of pieces) assert.doesNotMatch(piece, /a-s|secret-|some|length/);
  }
});

test('control characters and colours inside of a secret hide it from nobody', () => {
  const splitter = lineSplitter(redactor(['hunter2hunter2']));
  assert.deepEqual(splitter.push(Buffer.from('\x1b[31mhunter2\x1b[0mhun\x07ter2\n')), [SENSITIVE]);
});

test('a secret of several lines is hidden line by line; short lines of it are words', () => {
  const redact = redactor(['-----BEGIN KEY-----\nMIIEvQIBADANBg\r\nend\n']);
  assert.equal(redact('MIIEvQIBADANBg'), SENSITIVE);
  assert.equal(redact('the end'), 'the end');
});

test('the longer of two secrets that begin alike counts; short ones and none change nothing', () => {
  assert.equal(redactor(['abcdef', 'abcdefgh'])('abcdefgh abcdefx'), `${SENSITIVE} ${SENSITIVE}x`);
  assert.equal(redactor(['abc', ''])('abc'), 'abc');
  assert.equal(redactor([]).longest, 0);
});

test('errors of a phase say no secret, nor do their causes', async () => {
  const redact = redactor(['hunter2hunter2']);
  const cause = new Error('outer', { cause: new Error('hunter2hunter2') });
  const details = [new KilnError('StepFailed', 'also hunter2hunter2')];
  const error = new KilnError('StepFailed', 'said hunter2hunter2', {
    target: 'customize',
    hint: 'not hunter2hunter2',
    details,
    cause,
  });
  const shown = redactedError(error, redact);
  assert.doesNotMatch(JSON.stringify(errorBody(shown)), /hunter2/);
  assert.equal(shown.message, `said ${SENSITIVE}`);
  assert.equal(shown.cause, undefined);
  const plain = new Error('plain');
  assert.equal(redactedError(new KilnError('StepFailed', 'x', { cause: plain }), redact).cause, plain);

  const phase: Phase = {
    ...{ kind: 'customize', name: 'p', subState: 'Customizing', inputs: {} },
    run: async () => {
      throw error;
    },
  };
  const context = { signal: new AbortController().signal } as PhaseContext;
  await assert.rejects(redacting(phase, redact).run({}, context), { code: 'StepFailed', message: `said ${SENSITIVE}` });
  assert.equal(redacting(phase, redactor([])), phase);
});
