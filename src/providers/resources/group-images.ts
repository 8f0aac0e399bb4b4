/** The images of a resource group, as files. */
import { idKey } from '../../arm/ids.ts';
import type { Home } from '../../home.ts';
import { list, remove } from '../../images/store.ts';

/** Of managed images, gallery versions and VHDs: an image's id is that of its resource, or lies below that of its template. */
export async function removeImages(home: Home, groupId: string): Promise<void> {
  const prefix = `${idKey(groupId)}/`;
  for (const image of await list(home.root)) if (idKey(image.manifest.id).startsWith(prefix)) await remove(image);
}
