/**
 * What an image or an image version is made from: a managed image, another version, or a VHD in a storage account. Resolved here for all of them: whose it is,
 * who may read it, where its bytes are.
 */

import { KilnError } from '../../arm/errors.ts';
import { idKey, parentId, parseId, type ResourceId, sameId, sameText, tryParseId } from '../../arm/ids.ts';
import { findRegion } from '../../arm/locations.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { contentOf } from '../../disks/content.ts';
import { type ImportedDisk, type ImportOptions, importVhd } from '../../disks/import-vhd.ts';
import { DEFAULT_LIMITS, type DiskLimits } from '../../disks/untrusted.ts';
import { dataDisksOf } from '../../images/data-disks.ts';
import { list, type StoredImage } from '../../images/store.ts';
import { type LinkedAction, type Permitted, requireLinkedAccess } from '../linked-access.ts';
import type { Call, ProviderEnvironment } from '../provider.ts';
import { findAccount } from '../storage/find-account.ts';
import { locateBlob } from '../storage/locate-blob.ts';
import { getResource, type StoredResource } from '../store.ts';
import { type BlobAddress, parseBlobAddress } from './blob-address.ts';
import { noSuchBlob, openVhd, type VhdDisk } from './vhd-disk.ts';

/** As a body names it. `path`: where, for messages. */
export type SourceReference =
  | { readonly id: string; readonly path: string }
  | { readonly uri: string; readonly storageAccountId?: string; readonly path: string };

export interface SourceOptions {
  /** Where the image or version is made: its source has to be there, too. */
  readonly location?: string;
  /** Of a disk from outside. */
  readonly limits?: DiskLimits;
}

export interface DiskSource {
  readonly kind: 'ManagedImage' | 'SharedImage' | 'VHD';
  /** Resource id, as it is shown; of a VHD its URL, without query. */
  readonly id: string;
  /** Region in which the bytes are read. */
  readonly location: string;
  /** What the resource says; a VHD says nothing. */
  readonly osType?: 'Linux' | 'Windows';
  readonly osState?: 'Generalized' | 'Specialized';
  readonly hyperVGeneration?: 'V1' | 'V2';
  readonly disk: SourceDisk;
  /** In the order of their units. */
  readonly dataDisks: readonly { readonly lun: number; readonly disk: SourceDisk }[];
}

/** A disk that is Kiln's own already, or a VHD that was found to be one. */
export type SourceDisk = { readonly virtualSize: number; readonly stored: StoredImage } | VhdDisk;

type Environment = Pick<ProviderEnvironment, 'database' | 'home'>;

/**
 * Whether it is there and the caller may read it: what a request is answered by, before the operation that opens it.
 * Errors: LinkedInvalidPropertyId, LinkedAuthorizationFailed; those of openDiskSource, but for what is wrong with the VHD itself.
 */
export async function requireDiskSource(
  call: Pick<Call, 'caller' | 'environment' | 'may'>,
  permitted: Permitted,
  source: SourceReference,
  options: SourceOptions = {},
): Promise<void> {
  await requireLinkedAccess(call, permitted, [await linkOf(call.environment, source)]);
  await find(call.environment, source, options);
}

const READ = {
  image: 'Microsoft.Compute/images/read',
  version: 'Microsoft.Compute/galleries/images/versions/read',
  // Whoever can have an account's keys can read what is in it.
  account: 'Microsoft.Storage/storageAccounts/listKeys/action',
};

async function linkOf(environment: Environment, source: SourceReference): Promise<LinkedAction> {
  const { path } = source;
  if ('id' in source) {
    const { type } = parseId(source.id, path);
    const action = sameText(type, VERSION) ? READ.version : sameText(type, IMAGE) ? READ.image : `${type}/read`;
    return { path, action, scope: source.id };
  }
  const account = await accountOf(environment, source, parseBlobAddress(source.uri, path));
  return { path, action: READ.account, scope: account.id };
}

const IMAGE = 'Microsoft.Compute/images';
const VERSION = 'Microsoft.Compute/galleries/images/versions';

/**
 * Looks it up, with no regard to who asks. Opens no disk but reads the footer of a VHD.
 * Errors: NotFound, OperationNotAllowed while it is made; InvalidParameter, StorageAccountNotFound, StorageAccountLocationMismatch, ImageBlobNotFound,
 * IncorrectImageBlobType, InvalidVhd, VHDSizeInvalid.
 */
export async function openDiskSource(
  environment: Environment,
  source: SourceReference,
  options: SourceOptions = {},
): Promise<DiskSource> {
  const found = await find(environment, source, options);
  if ('resource' in found) return await storedSource(environment, found, options.location);
  const disk = await openVhd(environment, found, options.limits ?? DEFAULT_LIMITS);
  return { kind: 'VHD', id: found.address.uri, location: found.location, disk, dataDisks: [] };
}

/**
 * The disk as a file that never changes: the image's own, which is not the caller's to touch, or one made under `to`. Errors: those of importVhd; Conflict, for a
 * VHD that somebody wrote to meanwhile.
 */
export async function takeDisk(disk: SourceDisk, options: ImportOptions): Promise<ImportedDisk> {
  if ('stored' in disk) {
    const { path, manifest } = disk.stored;
    const { virtualSize, allocatedSize, format } = manifest;
    if (format !== 'qcow2') throw new Error(`${path} is ${format}`);
    return { path, format, virtualSize, allocatedSize, ...contentOf(manifest) };
  }
  try {
    const imported = await importVhd(disk.vhd, options);
    if (!(await disk.changed())) return imported;
  } catch (error) {
    options.signal.throwIfAborted();
    // A blob that is overwritten or deleted takes its files along.
    if (!(await disk.changed())) throw error;
  }
  throw new KilnError('Conflict', 'The source VHD was changed while it was copied.', {
    hint: 'Upload it whole, then make the image.',
  });
}

type Found =
  | { readonly resource: StoredResource; readonly id: ResourceId; readonly path: string }
  | { readonly address: BlobAddress; readonly location: string; readonly path: string };

async function find(environment: Environment, source: SourceReference, options: SourceOptions): Promise<Found> {
  const { path } = source;
  if ('id' in source) {
    const id = parseId(source.id, path);
    const resource = await getResource(environment.database, id);
    if (!resource || !(sameText(id.type, IMAGE) || sameText(id.type, VERSION))) throw notFound(source.id, path);
    const state = String(resource.properties.provisioningState);
    if (state === 'Deleting') throw notFound(source.id, path);
    if (state !== 'Succeeded' && state !== 'Updating')
      throw new KilnError(
        'OperationNotAllowed',
        `The resource cannot be created from Image ${resource.id} until Image has been successfully created.`,
        { target: path },
      );
    return { resource, id, path };
  }
  const address = parseBlobAddress(source.uri, path);
  const account = await accountOf(environment, source, address);
  const location = findRegion(account.resource.location ?? '')?.name ?? '';
  if (options.location !== undefined && location !== options.location)
    throw new KilnError(
      'StorageAccountLocationMismatch',
      `Could not resolve storage account ${account.name}. Please ensure it was created through the Storage Resource Provider in the same location as the compute resource.`,
      { target: path, hint: `It is in ${location}, not in ${options.location}.` },
    );
  const blob = await locateBlob(environment, address.account, address.container, address.blob);
  if (!blob) throw noSuchBlob(address, path);
  if (blob.type === 'AppendBlob')
    throw new KilnError(
      'IncorrectImageBlobType',
      `Disk blobs can only be of type page blob. Blob ${address.uri} is of type '${blob.type}'.`,
      { target: path },
    );
  return { address, location, path };
}

/** The one that the URL names; where the body names one as well, it has to be the same. Errors: StorageAccountNotFound, InvalidParameter. */
async function accountOf(
  { database }: Environment,
  { storageAccountId, path }: Extract<SourceReference, { uri: string }>,
  { account: name, uri }: BlobAddress,
) {
  const account = await findAccount(database, name);
  if (!account)
    throw new KilnError(
      'StorageAccountNotFound',
      `Storage account ${name} not found. Ensure storage account is not deleted and belongs to the same Azure location as the VM.`,
      { target: path },
    );
  if (storageAccountId !== undefined && !(tryParseId(storageAccountId) && sameId(storageAccountId, account.id)))
    throw new KilnError('InvalidParameter', `The blob ${uri} is not in the storage account ${storageAccountId}.`, {
      target: path,
    });
  return account;
}

const notFound = (id: string, path: string) =>
  new KilnError(
    'NotFound',
    `Source ${id} is not found. Please check source exists, and is in the same region as gallery image version being created.`,
    { target: path },
  );

async function storedSource(
  { database, home }: Environment,
  { resource, id, path }: Extract<Found, { resource: StoredResource }>,
  location: string | undefined,
): Promise<DiskSource> {
  const here = (await list(home.root)).filter(
    ({ manifest }) => location === undefined || manifest.location === location,
  );
  const image = here.find(({ manifest }) => idKey(manifest.id) === idKey(id));
  if (!image) throw notFound(resource.id, path);
  const kind = sameText(id.type, IMAGE) ? 'ManagedImage' : 'SharedImage';
  const dataDisks = dataDisksOf(here, image).map(({ lun, stored }) => ({ lun, disk: diskOf(stored) }));
  const { osType, hyperVGeneration } = image.manifest;
  const osState = await osStateOf(database, resource, id);
  return {
    kind,
    id: resource.id,
    location: image.manifest.location,
    ...{ osType, osState, hyperVGeneration, disk: diskOf(image), dataDisks },
  };
}

const diskOf = (stored: StoredImage): SourceDisk => ({ virtualSize: stored.manifest.virtualSize, stored });

async function osStateOf(
  database: Environment['database'],
  resource: StoredResource,
  id: ResourceId,
): Promise<'Generalized' | 'Specialized'> {
  const definition = sameText(id.type, VERSION) ? await getResource(database, parentId(id)!) : undefined;
  const part = (value: unknown, name: string): unknown => (isObject(value) ? (value as JsonObject)[name] : undefined);
  const state = definition
    ? definition.properties.osState
    : part(part(resource.properties.storageProfile, 'osDisk'), 'osState');
  return state === 'Specialized' ? 'Specialized' : 'Generalized';
}
