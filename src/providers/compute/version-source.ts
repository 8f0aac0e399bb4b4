/** Where the disk of an image version comes from, as its body names it: a managed image, a version of some gallery, or a VHD in a blob (contract 2.3). */
import { isIdOf, tryParseId } from '../../arm/ids.ts';
import type { Violation } from '../../arm/resource-type.ts';
import { isObject } from '../../arm/shape.ts';
import { isSharedImageId } from './shared-image-id.ts';

export const MANAGED_IMAGE = 'Microsoft.Compute/images';
export const IMAGE_VERSION = 'Microsoft.Compute/galleries/images/versions';
export const STORAGE_ACCOUNT = 'Microsoft.Storage/storageAccounts';

export type VersionSource =
  | { readonly kind: 'image' | 'version' | 'shared' | 'absent'; readonly id: string; readonly path: string }
  | { readonly kind: 'vhd'; readonly uri: string; readonly accountId: string; readonly path: string };

const STORAGE = 'properties.storageProfile';

const ONE_SOURCE =
  'The gallery artifact version source can only be specified either directly under storageProfile or within individual OS or data disks. One and only one source type (user image, snapshot, disk, virtual machine) can be provided.';

/** The one source of a storage profile, or what is wrong with it; neither where it names none. */
export function versionSource(storageProfile: unknown): {
  readonly source?: VersionSource;
  readonly violations: readonly Violation[];
} {
  const profile = isObject(storageProfile) ? storageProfile : {};
  const whole = isObject(profile.source) ? profile.source : {};
  const disk = isObject(profile.osDiskImage) && isObject(profile.osDiskImage.source) ? profile.osDiskImage.source : {};
  const at = `${STORAGE}.source`;
  const osAt = `${STORAGE}.osDiskImage.source`;
  const named: (() => ReturnType<typeof versionSource>)[] = [];
  for (const field of ['id', 'virtualMachineId', 'communityGalleryImageId'] as const) {
    const id = whole[field];
    if (typeof id === 'string') named.push(() => wholeSource(id, `${at}.${field}`));
  }
  if (typeof disk.uri === 'string' || typeof disk.id === 'string' || typeof disk.storageAccountId === 'string')
    named.push(() => diskSource(disk, osAt));
  const dataDisks = Array.isArray(profile.dataDiskImages) ? profile.dataDiskImages : [];
  const dataSource = dataDisks.findIndex(
    one => isObject(one) && isObject(one.source) && Object.keys(one.source).length > 0,
  );
  if (named.length > 1 || (named.length === 0 && dataSource !== -1))
    return { violations: [{ path: STORAGE, message: ONE_SOURCE }] };
  if (dataSource !== -1)
    return {
      violations: [
        {
          path: `${STORAGE}.dataDiskImages[${dataSource}].source`,
          message: `The value of parameter galleryImageVersion.${STORAGE}.dataDiskImages[${dataSource}].source is invalid.`,
          hint: 'Data disks come with the image that the version is made from: name that one in storageProfile.source.id.',
        },
      ],
    };
  return named[0]?.() ?? { violations: [] };
}

export const missingSource: Violation = Object.freeze({ path: STORAGE, message: ONE_SOURCE });

function wholeSource(id: string, path: string): ReturnType<typeof versionSource> {
  const kind = isIdOf(id, MANAGED_IMAGE)
    ? 'image'
    : isIdOf(id, IMAGE_VERSION)
      ? 'version'
      : isSharedImageId(id)
        ? 'shared'
        : // Kiln has none, so it is not found.
          isIdOf(id, 'Microsoft.Compute/virtualMachines')
          ? 'absent'
          : undefined;
  if (kind) return { source: { kind, id: id.replace(/\/$/, ''), path }, violations: [] };
  return {
    violations: [
      {
        path,
        message: `The source id: ${id} must either be a managed image, virtual machine or another gallery image version`,
      },
    ],
  };
}

/** Before `storageAccountId` there was, and in az still is, the account in `id`. */
function diskSource(disk: Readonly<Record<string, unknown>>, path: string): ReturnType<typeof versionSource> {
  const { uri, id, storageAccountId = id } = disk;
  if (typeof uri !== 'string') {
    const text = String(id ?? storageAccountId);
    const type = tryParseId(text)?.type.toLowerCase();
    if (type === 'microsoft.compute/snapshots' || type === 'microsoft.compute/disks')
      return { source: { kind: 'absent', id: text, path: `${path}.id` }, violations: [] };
    return { violations: [{ path: `${path}.uri`, message: required(`${path}.uri`) }] };
  }
  const field = disk.storageAccountId === undefined ? 'id' : 'storageAccountId';
  if (typeof storageAccountId !== 'string')
    return { violations: [{ path: `${path}.storageAccountId`, message: required(`${path}.storageAccountId`) }] };
  if (!isIdOf(storageAccountId, STORAGE_ACCOUNT))
    return {
      violations: [
        {
          path: `${path}.${field}`,
          message: `The value of parameter galleryImageVersion.${path}.${field} is invalid.`,
          hint: 'It must be the id of the storage account that holds the VHD.',
        },
      ],
    };
  return { source: { kind: 'vhd', uri, accountId: storageAccountId, path: `${path}.uri` }, violations: [] };
}

const required = (parameter: string): string =>
  `Required parameter 'galleryImageVersion.${parameter}' is missing (null).`;
