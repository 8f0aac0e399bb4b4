import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERRORS, EXIT_CODES } from './errors.ts';
import { ERRORS_DOCUMENT, renderErrors } from './errors-document.ts';

test('docs/errors.md agrees with the catalogue (else: node src/arm/errors-document.ts)', () => {
  assert.equal(readFileSync(ERRORS_DOCUMENT, 'utf8'), renderErrors());
});

test('every code and exit code is in the document', () => {
  const text = renderErrors();
  for (const code of Object.keys(ERRORS)) assert.match(text, new RegExp(`^\\| ${code} \\|`, 'm'));
  for (const code of Object.values(EXIT_CODES)) assert.match(text, new RegExp(`exit code ${code}\\)`));
});
