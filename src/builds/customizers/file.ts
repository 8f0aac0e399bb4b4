/** File customizer and validator: a file of any size is streamed into the guest, as the login user; no copy in memory. */
import { createReadStream } from 'node:fs';
import { posix } from 'node:path';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { uploadCommand } from '../../machines/upload.ts';
import type { Phase } from '../phase.ts';
import { pathOf, phaseOf, type StepPlace, type StoredFile, titleOf } from './step.ts';

/** @param destination path in the guest; relative to the login user's home; a trailing slash means "into this directory" */
export function filePhase(place: StepPlace, file: StoredFile, destination: string): Phase {
  return {
    ...phaseOf(place),
    inputs: { type: 'File', sha256: file.sha256, command: uploadCommand(target(destination, file.uri)) },
    async run(state, context) {
      const path = target(destination, file.uri);
      context.log.mark('[INFO] (telemetry) Starting provisioner file');
      context.log.say(`${titleOf(place)}: ${file.uri} → ${path}`);
      try {
        const bytes = await state.machine!.upload(createReadStream(file.path), path, {
          signal: context.signal,
          onProgress: done => context.progress({ label: path, done, total: file.size, unit: 'bytes' }),
        });
        return { state, bytes };
      } catch (thrown) {
        const error = asKilnError(thrown);
        if (error.code !== 'StepFailed') throw thrown;
        throw new KilnError('StepFailed', `${titleOf(place)} failed: ${error.message}`, {
          target: `${pathOf(place)}.destination`,
          hint: 'Files are written by an ordinary user: upload to /tmp, then move the file with sudo in a Shell step. The directory must exist.',
        });
      } finally {
        context.log.mark('[INFO] (telemetry) ending file');
      }
    },
  };
}

function target(destination: string, uri: string): string {
  if (!destination.endsWith('/')) return destination;
  const { pathname } = new URL(uri, 'file:///');
  return destination + posix.basename(decoded(pathname));
}

function decoded(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    // A percent sign that encodes nothing is part of the name.
    return pathname;
  }
}
