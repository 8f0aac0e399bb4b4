/** `kiln images verify`: reads an image anew and compares it with what was published. */
import { type Command, Option } from 'commander';
import { KilnError } from '../arm/errors.ts';
import { contentOf, contentOfFile, contentText } from '../disks/content.ts';
import { sha256File } from '../disks/hash.ts';
import { openHome } from '../home.ts';
import { find } from '../images/store.ts';
import { globalOptions } from './command.ts';
import { interruptible } from './interrupt.ts';
import { ensureRequirements } from './requirements.ts';

export function registerVerify(command: Command): void {
  const verify = command
    .command('verify')
    .description('Read an image anew: is it what was published? Prints its digest, that of `fsverity digest FILE`.')
    .argument('<image>', 'name, run output or resource id of an image, or its beginning')
    .addOption(new Option('-l, --location <region>', 'the replica in this region'))
    .option('--sha256', "print the file's SHA-256 as well: what `sha256sum` prints, and slower than the check")
    .action(async (name: string, options: { location?: string; sha256?: boolean }) => {
      const global = globalOptions(verify);
      await ensureRequirements('images verify', global);
      const { manifest, path } = await find((await openHome({ home: global.home })).root, name, options);
      await interruptible(async signal => {
        const known = contentOf(manifest);
        const found = await contentOfFile(path, known, { signal });
        if (contentText(found) !== contentText(known))
          throw new KilnError(
            'ChecksumMismatch',
            `${path} is not what was published: it has ${contentText(found)}, expected ${contentText(known)}.`,
            { target: path, hint: 'Its file is damaged: remove this replica, and build or replicate the image again.' },
          );
        const all = { ...found, ...(options.sha256 && { sha256: await sha256File(path, { signal }) }) };
        if (global.json) process.stdout.write(`${JSON.stringify({ image: manifest.id, path, ...all }, null, 2)}\n`);
        else process.stdout.write([path, ...Object.entries(all).map(digest => `  ${digest.join(' ')}`), ''].join('\n'));
      });
    });
}
