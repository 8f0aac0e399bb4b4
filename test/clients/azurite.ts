/** Azurite, Microsoft's own emulator of the blob service: installed once and kept beside the source images, since its 457 packages (365 MB) are nothing that all who work here need. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFile } from '../../src/disks/file-lock.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory } from '../kiln.ts';

const NAME = 'azurite-3.37.0';
const UNFINISHED = `.${NAME}-`;

/** The script that Node runs; or why it cannot be had here, as a sentence for a skipped test. */
export async function azuriteScript(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const cache = cacheDirectory();
  const root = join(cache, NAME);
  const path = join(root, 'node_modules/azurite/dist/src/blob/main.js');
  await mkdir(cache, { recursive: true });
  await using _lock = await lockFile(join(cache, `${NAME}.lock`));
  if (existsSync(path)) return { path };
  // Nobody else installs it now: what is there is what a killed process left.
  for (const name of await readdir(cache))
    if (name.startsWith(UNFINISHED)) await rm(join(cache, name), { recursive: true, force: true });
  const work = await mkdtemp(join(cache, UNFINISHED));
  try {
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    await run('npm', ['install', '--prefix', work, ...quiet, NAME.replace('-', '@')]);
    await rename(work, root);
    return { path };
  } catch (error) {
    const said = String((error as Error).message)
      .split('\n')
      .slice(-3)
      .join(' ');
    return { missing: `Azurite cannot be installed here: ${said}` };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
