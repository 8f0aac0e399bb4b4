/** The source phase: the disk that a build starts from, downloaded or made once and kept for all builds. */
import { contentOf, contentText } from '../../disks/content.ts';
import type { AcquireOptions, SourceImage } from '../../images/source.ts';
import { pinDisks } from '../layers/overlays.ts';
import type { Phase } from '../phase.ts';

/** What of the source can change what is made of it. */
export const sourceContent = ({ provisioning, dataDisks = [], ...source }: SourceImage) => ({
  ...{ ...contentOf(source), provisioning },
  ...(dataDisks.length > 0 && { dataDisks: dataDisks.map(({ lun, ...disk }) => ({ lun, ...contentOf(disk) })) }),
});

/** Gets the disk; says whether it was there already. */
export type Acquire = (options: AcquireOptions) => Promise<{ readonly image: SourceImage; readonly cached: boolean }>;

/**
 * @param reference what the template names, for the plan: `Debian:debian-12:12-gen2:latest`
 */
export function sourcePhase(reference: string, acquire: Acquire): Phase {
  return {
    kind: 'source',
    name: reference,
    subState: 'Building',
    inputs: { reference },
    async run(state, context) {
      const { image, cached } = await acquire({
        signal: context.signal,
        report: line => context.log.say(line),
        onProgress: context.progress,
      });
      context.log.say(`Source image ${image.name}, ${image.disk.format}, ${contentText(image)}.`);
      return {
        // From here on it may be removed from the cache, or made anew, while the build waits for another one.
        state: { ...state, source: await pinDisks(image, context.directory) },
        cached,
        content: sourceContent(image),
        detail: { name: image.name, exactVersion: image.exactVersion, ...contentOf(image) },
      };
    },
  };
}
