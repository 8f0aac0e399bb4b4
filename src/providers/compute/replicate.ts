/**
 * The operation behind a PUT of an image version: its files go into each region that it names, and out of those that it no longer does. One region after the
 * other, the version's own first; each is complete or not there. With `replicationMode` Shallow a replica is another name of the file that it is made from. A worker that dies leaves it to the next one, which goes on where files are missing.
 */
import type { Kysely } from 'kysely';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { LOCAL_TENANT, parentId, parseId, sameId } from '../../arm/ids.ts';
import { isObject } from '../../arm/shape.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { ServiceLog } from '../../database/service-log.ts';
import { contentOf } from '../../disks/content.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { dataDiskId, dataDisksOf } from '../../images/data-disks.ts';
import type { ImageManifest } from '../../images/manifest.ts';
import { filesOf, placeImage, removeFiles, removeStaged } from '../../images/replica.ts';
import { IMAGE_FILES, remove, type StoredImage } from '../../images/store.ts';
import { getResource, lockResource, patchProperties, type StoredResource, waitsFor } from '../store.ts';
import { openDiskSource, type SourceDisk, takeDisk } from './disk-source.ts';
import { targetRegions } from './latest-version.ts';
import { clearReplicas, failReplicas, noteProgress, writeReplica } from './replica-rows.ts';
import { sourceReference } from './source-reference.ts';
import { versionSource } from './version-source.ts';
import { REPLICATE_KIND, type ReplicateInput } from './version-write.ts';

export interface ReplicateEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
  readonly log: ServiceLog;
}

const WAITING = ['Creating', 'Updating'];
/** Least time between two notes of a copy's progress (ms). */
const NOTE_EVERY = 500;

/** What is copied into the next region: the source at first, then the replica that was made of it. */
interface Disks {
  readonly os: SourceDisk;
  readonly data: readonly { readonly lun: number; readonly disk: SourceDisk }[];
  /** Where it comes from, for manifests. */
  readonly source: ImageManifest['source'];
}

export function replicateHandler(environment: ReplicateEnvironment): OperationHandler {
  const { database, home, log } = environment;
  return {
    kind: REPLICATE_KIND,
    async run({ id: operationId, signal }, input) {
      const { versionId } = input as ReplicateInput;
      // A worker has done it, and died before it could say so; or it is being deleted.
      const version = await getResource(database, versionId);
      if (!waitsFor(version, operationId, WAITING)) return null;
      try {
        await removeStaged(home.root, operationId);
        const failed = await replicate(environment, version, operationId, signal);
        signal.throwIfAborted();
        const made = failed ? undefined : await filesOf(home.root, version.id);
        await whenReachable(
          () => database.transaction().execute(trx => finish(trx, version.id, operationId, made)),
          signal,
        );
        if (failed) throw failed;
        return null;
      } catch (error) {
        const known = asKilnError(signal.aborted ? signal.reason : error);
        if (known.code === 'InternalError')
          log('error', 'An image version could not be replicated.', { id: versionId, error: String(error) });
        // When this process is closing, another one goes on.
        if (known.code !== 'WorkerLost')
          await whenReachable(() =>
            database.transaction().execute(trx => giveUp(trx, versionId, operationId, known)),
          ).catch(() => undefined);
        throw error;
      }
    },
    async abandoned(trx, operation, error) {
      const { versionId } = operation.input as ReplicateInput;
      const version = await getResource(trx, versionId);
      // It ended, and only the word of it is missing.
      if (operation.status === 'Running' && version?.properties.operation === operation.id)
        if (version.properties.provisioningState === 'Succeeded') return { status: 'Succeeded', output: null };
      await giveUp(trx, versionId, operation.id, error);
      return undefined;
    },
  };
}

/** @returns why a region has no replica; undefined when all have. */
async function replicate(
  environment: ReplicateEnvironment,
  version: StoredResource,
  operationId: string,
  signal: AbortSignal,
): Promise<KilnError | undefined> {
  const { database, home } = environment;
  const wanted = targetRegions(version).map(({ region }) => region);
  // The others are copied from it, and people look for it there first.
  const order = [version.location!, ...wanted.filter(region => region !== version.location)];
  const failures: { readonly region: string; readonly error: KilnError }[] = [];
  let disks: Disks | undefined;
  for (const region of order) {
    signal.throwIfAborted();
    try {
      disks ??= await disksOf(environment, version);
      await replicateInto(environment, { version, region, disks, operationId, signal });
      await whenReachable(() => clearReplicas(database, version.id, region), signal);
      disks = await ownDisks(environment, version, disks.source);
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asKilnError(thrown);
      if (error.code === 'InternalError')
        environment.log('error', 'A replica of an image version could not be made.', {
          id: version.id,
          region,
          error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
        });
      failures.push({ region, error });
      const details = error.code === 'InternalError' ? 'Kiln itself failed; its service log says why.' : error.message;
      const row = { region, state: 'Failed', progress: 0, details } as const;
      await whenReachable(() => writeReplica(database, version.id, row), signal);
    }
  }
  const [first, ...more] = failures;
  if (!first) {
    // Not before: the last whole replica may be there.
    await removeFiles(home.root, version.id, wanted);
    return undefined;
  }
  if (more.length === 0) return first.error;
  return new KilnError(first.error.code, first.error.message, {
    details: failures.map(({ region, error }) => new KilnError(error.code, error.message, { target: region })),
  });
}

/** Of the version itself, where any region has it whole; otherwise of its source. Errors: those of the source. */
async function disksOf(environment: ReplicateEnvironment, version: StoredResource): Promise<Disks> {
  const own = await ownDisks(environment, version);
  if (own) return own;
  const { database } = environment;
  const named = versionSource(version.properties.storageProfile).source;
  const location = version.location!;
  if (!named)
    throw new KilnError('NotFound', `No replica of ${version.id} is left to copy, and it names no source.`, {
      target: version.id,
    });
  const viewer = { subscription: parseId(version.id).subscription, tenantId: LOCAL_TENANT };
  const { reference } = await sourceReference(database, named, viewer, location);
  const opened = await openDiskSource(environment, reference, { location });
  const { disk } = opened;
  const source = 'stored' in disk ? sourceOf(disk.stored.manifest) : { name: opened.id };
  return { os: disk, data: opened.dataDisks, source };
}

const sourceOf = (image: ImageManifest): ImageManifest['source'] => ({
  name: image.id,
  ...contentOf(image),
  exactVersion: image.name.slice(image.name.lastIndexOf('/') + 1),
});

async function ownDisks(
  { home }: ReplicateEnvironment,
  version: StoredResource,
  source?: ImageManifest['source'],
): Promise<Disks | undefined> {
  const files = await filesOf(home.root, version.id);
  const at = (location: string) => files.filter(({ manifest }) => manifest.location === location);
  const regions = [version.location!, ...new Set(files.map(({ manifest }) => manifest.location))];
  for (const region of regions) {
    const os = at(region).find(({ manifest }) => sameId(manifest.id, version.id));
    if (!os) continue;
    const data = dataDisksOf(files, os).map(({ lun, stored }) => ({ lun, disk: diskOf(stored) }));
    return { os: diskOf(os), data, source: source ?? os.manifest.source };
  }
  return undefined;
}

const diskOf = (stored: Extract<SourceDisk, { stored: unknown }>['stored']): SourceDisk => ({
  virtualSize: stored.manifest.virtualSize,
  stored,
});

interface Replica {
  readonly version: StoredResource;
  readonly region: string;
  readonly disks: Disks;
  readonly operationId: string;
  readonly signal: AbortSignal;
}

/** Data disks first: with the disk itself the replica is there. */
async function replicateInto(environment: ReplicateEnvironment, replica: Replica): Promise<void> {
  const { version, region, disks } = replica;
  const files = (await filesOf(environment.home.root, version.id)).filter(
    ({ manifest }) => manifest.location === region,
  );
  if (files.some(({ manifest }) => sameId(manifest.id, version.id))) return;
  // Of an attempt that did not get as far as the disk.
  for (const file of files) await remove(file);
  const progress = progressOf(environment, replica);
  const all = [
    ...disks.data.map(({ lun, disk }) => ({ id: dataDiskId(version.id, lun), disk })),
    { id: version.id, disk: disks.os },
  ];
  for (const [index, { id, disk }] of all.entries()) {
    const share = (fraction: number) => progress((index + fraction) / all.length);
    await place(environment, replica, { id, disk, onProgress: share });
  }
}

async function place(
  { database, home }: ReplicateEnvironment,
  { version, region, disks, operationId, signal }: Replica,
  { id, disk, onProgress }: { id: string; disk: SourceDisk; onProgress: (fraction: number) => void },
): Promise<void> {
  const parsed = parseId(version.id);
  const definition = await getResource(database, parentId(parsed)!);
  const { osType, hyperVGeneration } = definition?.properties ?? {};
  const generation = hyperVGeneration === 'V2' ? 'V2' : 'V1';
  const known = 'stored' in disk ? disk.stored.manifest : undefined;
  const manifest = {
    schema: 1 as const,
    id,
    kind: 'SharedImage' as const,
    name: [parsed.names[1], parsed.name, ...(id === version.id ? [] : [id.slice(id.lastIndexOf('/') + 1)])].join('/'),
    location: region,
    format: 'qcow2' as const,
    file: IMAGE_FILES.qcow2,
    createdAt: new Date().toISOString(),
    operationId,
    source: disks.source,
    osType: osType === 'Windows' ? ('Windows' as const) : ('Linux' as const),
    hyperVGeneration: generation as 'V1' | 'V2',
    firmware: known?.firmware ?? (generation === 'V2' ? ('uefi' as const) : ('bios' as const)),
    tags: { ...version.tags },
  };
  const profile = version.properties.publishingProfile;
  const shallow = isObject(profile) && profile.replicationMode === 'Shallow';
  const options = { signal, onProgress, shallow };
  await placeImage(home.root, manifest, to => takeDisk(disk, { to, signal, onProgress }), options);
}

/** Now and then, and never backwards. What cannot be noted is not. */
function progressOf({ database }: ReplicateEnvironment, { version, region }: Replica): (fraction: number) => void {
  let [noted, at] = [0, 0];
  return fraction => {
    const percent = Math.min(99, Math.floor(fraction * 100));
    if (percent <= noted || Date.now() - at < NOTE_EVERY) return;
    [noted, at] = [percent, Date.now()];
    noteProgress(database, version.id, region, percent).catch(() => undefined);
  };
}

/** Does nothing when the version does not wait for it any more. `made`: its files, where none has failed. */
async function finish(
  trx: Transacting,
  versionId: string,
  operationId: string,
  made: readonly StoredImage[] | undefined,
): Promise<void> {
  await lockResource(trx, versionId);
  const version = await getResource(trx, versionId);
  if (!waitsFor(version, operationId, WAITING)) return;
  if (!made) {
    await patchProperties(trx, versionId, { provisioningState: 'Failed' });
    return;
  }
  const files = made.filter(({ manifest }) => manifest.location === version.location);
  const storageProfile = { ...(version.properties.storageProfile as object), ...imagesOf(version, files) };
  await patchProperties(trx, versionId, { storageProfile, adding: [], provisioningState: 'Succeeded' });
}

const GIB = 1024 ** 3;

/** As recorded: the size of each disk, and how it is cached. */
function imagesOf(version: StoredResource, files: readonly { readonly manifest: ImageManifest }[]) {
  const before = version.properties.storageProfile;
  const given = isObject(before) && isObject(before.osDiskImage) ? before.osDiskImage : {};
  const size = ({ virtualSize }: ImageManifest) => Math.ceil(virtualSize / GIB);
  const os = files.find(({ manifest }) => sameId(manifest.id, version.id));
  const data = os
    ? dataDisksOf(files, os).map(({ lun, stored }) => ({ lun, sizeInGB: size(stored.manifest), hostCaching: 'None' }))
    : [];
  return {
    ...(os && {
      osDiskImage: { hostCaching: 'ReadWrite', source: {}, ...given, sizeInGB: size(os.manifest) },
    }),
    ...(data.length > 0 && { dataDiskImages: data }),
  };
}

async function giveUp(
  trx: Transacting,
  versionId: string,
  operationId: string,
  why: { readonly message: string },
): Promise<void> {
  await lockResource(trx, versionId);
  if (!waitsFor(await getResource(trx, versionId), operationId, WAITING)) return;
  await failReplicas(trx, versionId, why.message);
  await patchProperties(trx, versionId, { provisioningState: 'Failed' });
}
