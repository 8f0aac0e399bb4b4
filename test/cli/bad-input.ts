/** What tests of bad input share: a small good template to spoil, and what every error has to be. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ERRORS, type ErrorBody, type ErrorClass, EXIT_CODES } from '../../src/arm/errors.ts';
import type { Outcome } from '../kiln.ts';

/** A template that could be built. A test changes what it is about. */
export function goodTemplate() {
  return {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    apiVersion: '2024-02-01',
    name: 'bad-input',
    location: 'westeurope',
    properties: {
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      customize: [{ type: 'Shell', name: 'first', inline: ['true'] }] as Record<string, unknown>[],
      distribute: [{ type: 'VHD', runOutputName: 'image' }] as Record<string, unknown>[],
      vmProfile: {} as Record<string, unknown>,
    } as Record<string, unknown> & {
      source: Record<string, string>;
      customize: Record<string, unknown>[];
      distribute: Record<string, unknown>[];
      vmProfile: Record<string, unknown>;
    },
  };
}

export type Template = ReturnType<typeof goodTemplate>;

/** Writes a spoiled template, one property a line. @returns its path */
export async function writeTemplate(
  directory: string,
  name: string,
  spoil: (template: Template) => void,
): Promise<string> {
  const template = goodTemplate();
  spoil(template);
  const path = join(directory, `${name}.json`);
  await writeFile(path, `${JSON.stringify(template, null, 2)}\n`);
  return path;
}

/** One clear error for people: what, where or what to do, the class's exit code, no word of a defect, no stack. */
export function assertError(outcome: Outcome, errorClass: ErrorClass, ...patterns: readonly RegExp[]): void {
  const { exitCode, stdout, stderr } = outcome;
  assert.equal(exitCode, EXIT_CODES[errorClass], stderr);
  assert.equal(stdout, '');
  assert.equal(stderr.match(/^error: /gm)?.length, 1, stderr);
  assert.doesNotMatch(stderr, /defect of Kiln|^ +at .*\.ts:\d+/m);
  for (const pattern of patterns) assert.match(stderr, pattern);
}

/** The same as JSON on standard output, with nothing else there. */
export function errorOf(outcome: Outcome, code: ErrorBody['code']): ErrorBody {
  const { error } = JSON.parse(outcome.stdout) as { error: ErrorBody };
  assert.equal(error.code, code, outcome.stdout);
  assert.equal(outcome.exitCode, EXIT_CODES[ERRORS[code].class]);
  assert.ok(error.message.length > 0);
  return error;
}

/** Line and column of the first occurrence of a text, both from 1. */
export function positionOf(text: string, part: string): string {
  const offset = text.indexOf(part);
  assert.notEqual(offset, -1, `${part} is not in the text`);
  const before = text.slice(0, offset).split('\n');
  return `${before.length}:${before.at(-1)!.length + 1}`;
}
