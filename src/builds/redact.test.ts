import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { errorBody, KilnError } from '../arm/errors.ts';
import { lineSplitter, MAX_LINE } from './log.ts';
import type { Phase, PhaseContext } from './phase.ts';
import { redactedError, redacting, redactor, SENSITIVE, SHORTEST } from './redact.ts';

/** Of characters that mean something to regular expressions, URLs and terminals too. */
const secret = fc
  .string({
    unit: fc.constantFrom(...'abcAB019+/=%.*[]()|\\^$?{}-_ üß€'),
    minLength: SHORTEST,
    maxLength: 60,
  })
  .filter(text => text.trim().length >= SHORTEST);
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
