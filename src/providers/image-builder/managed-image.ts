/** The managed image that a distributor makes: what is in it, and whether there could be one, which is known before anything is built. */
import { randomUUID } from 'node:crypto';
import { parseId } from '../../arm/ids.ts';
import { violationError } from '../../arm/resource-type.ts';
import { images } from '../compute/images.ts';
import { elsewhereError } from '../life.ts';
import type { StoredResource } from '../store.ts';
import type { ManagedImageDistributor } from './distributors.ts';

/**
 * What Compute would refuse of the image, it is asked before there is one: another place than that of the image which is there already, too many tags, another operating
 * system. Errors: InvalidResourceLocation; InvalidParameter and those of tags, in Compute's own sentences; with the distributor as target.
 */
export function requireImageFits(
  { imageId, location, artifactTags }: ManagedImageDistributor,
  index: number,
  existing: StoredResource | undefined,
): void {
  const at = `properties.distribute[${index}]`;
  if (existing && existing.location !== location) throw elsewhereError(existing, location, `${at}.location`);
  const { violations } = images.validate(
    {
      location,
      tags: { ...artifactTags, correlationId: randomUUID() },
      properties: { storageProfile: { osDisk: { osType: 'Linux', osState: 'Generalized' } } },
    },
    {
      id: parseId(imageId),
      apiVersion: images.apiVersions[0]!,
      now: new Date(),
      newGuid: randomUUID,
      siblings: [],
      local: false,
      ...(existing && { existing }),
    },
  );
  if (violations.length === 0) return;
  throw violationError(
    images.violationCode,
    violations.map(violation => ({
      ...violation,
      path: `${at}.${violation.path.startsWith('tags') ? 'artifactTags' : 'imageId'}`,
    })),
  );
}
