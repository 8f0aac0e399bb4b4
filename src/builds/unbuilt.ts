/** The log of a run that ended before there was anything to build: where people are sent to look, it says why. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openBuildLog } from './log.ts';
import { redactor } from './redact.ts';

export interface Unbuilt {
  readonly runId: string;
  readonly logDirectory: string;
  readonly secrets: readonly string[];
}

/** Errors: those of the directory. A file that cannot be written is missing. */
export async function logUnbuilt({ runId, logDirectory, secrets }: Unbuilt, message: string): Promise<void> {
  await mkdir(logDirectory, { recursive: true });
  const log = openBuildLog({
    id: runId,
    path: join(logDirectory, 'customization.log'),
    redact: redactor(secrets),
    onLine: () => undefined,
    onError: () => undefined,
  });
  log.end(message);
  await log.close();
}
