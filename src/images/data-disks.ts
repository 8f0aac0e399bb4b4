/** Data disks of images, in the region store: each an image of its own, whose id lies below that of the image it belongs to. */
import { type ImageManifest, makerOf } from './manifest.ts';

type Stored = { readonly manifest: ImageManifest };

export interface StoredDataDisk<Image extends Stored> {
  readonly lun: number;
  readonly stored: Image;
}

/** Under which id the region store keeps a data disk of an image or version. */
export const dataDiskId = (id: string, lun: number | string): string => `${id}/dataDisks/${lun}`;

/** The id is that of a data disk, not of an image that has any. */
export const isDataDisk = ({ id }: Pick<ImageManifest, 'id'>): boolean => /\/dataDisks\/\d+$/i.test(id);

/** The id of the image that a data disk belongs to; of an image its own. */
export const imageIdOf = ({ id }: Pick<ImageManifest, 'id'>): string => id.replace(/\/dataDisks\/\d+$/i, '');

/** The data disks of an image, where it lies and of the same maker, by their units. */
export function dataDisksOf<Image extends Stored>(
  all: readonly Image[],
  { manifest }: Stored,
): StoredDataDisk<Image>[] {
  const prefix = dataDiskId(manifest.id, '').toLowerCase();
  return all
    .filter(
      ({ manifest: other }) =>
        other.id.toLowerCase().startsWith(prefix) &&
        other.location === manifest.location &&
        makerOf(other) === makerOf(manifest),
    )
    .map(stored => ({ lun: Number(stored.manifest.id.slice(prefix.length)), stored }))
    .sort((a, b) => a.lun - b.lun);
}
