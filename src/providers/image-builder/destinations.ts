/** Where a template's images go is a place of its own for each: of two in one place, one would replace the other, or fail. */
import { idKey } from '../../arm/ids.ts';
import type { JsonPath } from '../../arm/json-path.ts';
import { formatVersion, parseVersion } from '../compute/version-numbers.ts';
import { type Distributor, parseGalleryImageId } from './distributors.ts';
import type { Rules } from './rules.ts';

interface Destination {
  readonly key: string;
  readonly field: string;
  /** As it was given, without a signature. */
  readonly shown: string;
}

/** Untrusted; what is malformed is another rule's. */
export function checkDestinations(
  distributors: readonly (Distributor | undefined)[],
  at: JsonPath,
  rules: Rules,
): void {
  const seen = new Map<string, number>();
  distributors.forEach((distributor, index) => {
    const destination = distributor && destinationOf(distributor);
    if (!destination) return;
    const { key, field, shown } = destination;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, index);
    else
      rules.bad(
        [...at, index, field],
        shown,
        `distribute[${first}] publishes to it already: one would replace what the other has published, or fail.`,
      );
  });
}

/** The one image, version or blob that is published to; undefined where each run makes a new one. */
function destinationOf(distributor: Partial<Distributor>): Destination | undefined {
  switch (distributor.type) {
    case 'VHD': {
      const shown = distributor.uri?.split('?')[0];
      const url = shown ? URL.parse(shown) : null;
      return url && shown ? { key: url.href, field: 'uri', shown } : undefined;
    }
    case 'ManagedImage': {
      const { imageId } = distributor;
      return imageId === undefined ? undefined : { key: idKey(imageId), field: 'imageId', shown: imageId };
    }
    case 'SharedImage': {
      const { galleryImageId: shown = '' } = distributor;
      const { definitionId, version } = parseGalleryImageId(shown) ?? {};
      const number = version === undefined ? undefined : parseVersion(version);
      if (definitionId === undefined || !number) return undefined;
      return { key: `${idKey(definitionId)}/${formatVersion(number)}`, field: 'galleryImageId', shown };
    }
  }
  return undefined;
}
