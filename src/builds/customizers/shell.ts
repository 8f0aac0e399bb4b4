/**
 * Shell customizer and validator. As Packer's shell provisioner does for Azure: inline lines become one script for `/bin/sh -e`, a
 * downloaded script runs by its own first line; both as the login user, in its home, without a terminal or input.
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Phase } from '../phase.ts';
import { phaseOf, type StepPlace, type StoredFile, stepFailed, tail, titleOf } from './step.ts';

export type ShellScript = { readonly inline: readonly string[] } | { readonly file: StoredFile };

/**
 * Reads the script from standard input into a file of its own and runs it there; with standard input at its end, so
 * that nothing can wait for an answer. Packer sets the same two variables, and scripts are known to look at them.
 */
const RUN = [
  'f=/tmp/script_$$$RANDOM',
  'set -C',
  'cat > "$f" && chmod 0755 "$f" || exit 125',
  'set +C',
  'export DEBIAN_FRONTEND=noninteractive PACKER_BUILDER_TYPE=azure-arm PACKER_BUILD_NAME=azure-arm',
  '"$f"',
  's=$?',
  // Where the machine goes on, nobody need wait for it.
  'if [ -d /run/systemd/system ]; then rm -f "$f" >/dev/null 2>&1 </dev/null & else rm -f "$f"; fi',
  'exit $s',
].join('\n');

export function shellPhase(place: StepPlace, script: ShellScript): Phase {
  return {
    ...phaseOf(place),
    inputs: {
      type: 'Shell',
      wrapper: sha256(RUN),
      // Line endings are mended in files only: the same bytes need not be the same script.
      ...('file' in script ? { file: script.file.sha256 } : { script: sha256(inlineScript(script.inline)) }),
    },
    async run(state, context) {
      const last = tail(context.log.redact);
      const text = 'file' in script ? await scriptText(script.file.path) : inlineScript(script.inline);
      context.log.mark('[INFO] (telemetry) Starting provisioner shell');
      context.log.say(`${titleOf(place)}: ${'file' in script ? script.file.uri : countOf(script.inline)}`);
      const result = await state.machine!.exec(RUN, {
        stdin: text,
        signal: context.signal,
        output(chunk, stream) {
          last.push(chunk);
          context.log.guest(chunk, stream);
        },
      });
      context.log.flush();
      context.log.mark('[INFO] (telemetry) ending shell');
      if (result.exitCode !== 0) {
        const status = result.signal ?? result.exitCode ?? 'unknown';
        throw stepFailed(place, status, last.lines(), state.machine!.shape.kind);
      }
      return { state };
    },
  };
}

/** @returns the script that Packer makes of `inline` (its default inline_shebang is `/bin/sh -e`). */
export function inlineScript(lines: readonly string[]): string {
  return `#!/bin/sh -e\n${lines.join('\n')}\n`;
}

/** A script as it is run: Windows line endings become Unix ones, as Packer does unless told `binary`. */
async function scriptText(path: string): Promise<Buffer> {
  const bytes = await readFile(path);
  if (!bytes.includes('\r\n')) return bytes;
  return Buffer.from(bytes.toString('latin1').replaceAll('\r\n', '\n'), 'latin1');
}

/** The lines themselves may hold a secret; the log says how many there are. */
const countOf = (lines: readonly string[]) => `${lines.length} line${lines.length === 1 ? '' : 's'}`;
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
