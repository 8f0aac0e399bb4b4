/** Whether mkosi can do the job. */
import { run } from '../../src/processes/process.ts';

/**
 * It makes images of packages, with partitions of its own: what it makes from an image that is there (`--base-image`) holds only what is new in comparison, and
 * does not boot by itself; VHD is none of its formats (mkosi(1), version 14).
 */
export async function mkosiMissing(): Promise<string> {
  const found = await run('mkosi', ['--version']).catch(() => undefined);
  const name = found ? found.stdout.trim() : 'mkosi, which is not installed here,';
  return `${name} cannot do the job: it makes images of packages, and from an image that is there only the difference`;
}
