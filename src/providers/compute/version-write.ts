/**
 * PUT and PATCH of an image version: judged and stored in one transaction, with the operation that makes the replicas. What it is made from has to be there
 * and fit the image definition before anything is stored.
 */
import { KilnError } from '../../arm/errors.ts';
import { formatId, parentId, parseId } from '../../arm/ids.ts';
import { findRegion } from '../../arm/locations.ts';
import { type Violation, violationError } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import { OPEN } from '../../engine/operation.ts';
import { patched } from '../default-life.ts';
import { beginChange, notFoundError, putValidated } from '../life.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { beginOperation } from '../resource-operation.ts';
import { getResource, patchProperties, type StoredResource } from '../store.ts';
import { capsOperation } from './caps-life.ts';
import { type DiskSource, openDiskSource, requireDiskSource } from './disk-source.ts';
import { galleryImageVersions } from './gallery-image-versions.ts';
import { targetRegions } from './latest-version.ts';
import { clearReplicas, writeReplica } from './replica-rows.ts';
import { sourceReference } from './source-reference.ts';
import { type VersionSource, versionSource } from './version-source.ts';

export const REPLICATE_KIND = 'Microsoft.Compute/galleries/images/versions/replicate';

export interface ReplicateInput {
  readonly versionId: string;
}

export async function putVersion(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const source = await foreseen(call, body);
  return await write(call, async () => body, source);
}

export async function patchVersion(call: ResourceCall, body: JsonObject): Promise<Answer> {
  return await write(call, async (trx, existing) => {
    if (!existing) throw await notFoundError(trx, call.id);
    return patched(existing, body);
  });
}

async function write(
  call: ResourceCall,
  bodyOf: (trx: Transacting, existing: StoredResource | undefined) => Promise<JsonObject>,
  source?: ForeseenSource,
): Promise<Answer> {
  const { database, engine } = call.environment;
  return await database.transaction().execute(async trx => {
    const { parent, existing } = await beginChange(trx, call.id);
    const { apiVersion, conditions } = call;
    const body = await bodyOf(trx, existing);
    const request = { id: formatId(call.id), body, apiVersion, conditions };
    const { resource, created } = await putValidated(trx, galleryImageVersions, request);
    if (existing) {
      await requireIdle(trx, existing);
      requireRemovable(existing, resource);
    } else requireFit(source!, parent!);
    const wanted = targetRegions(resource).map(({ region }) => region);
    const complete = existing ? completeRegions(existing) : [];
    const adding = wanted.filter(region => !complete.includes(region));
    await patchProperties(trx, call.id, { adding });
    await clearReplicas(trx, resource.id);
    for (const region of adding)
      await writeReplica(trx, resource.id, { region, state: 'Replicating', progress: 0, details: '' });
    const input: ReplicateInput = { versionId: resource.id };
    const about = { resource: call.id, input, caller: call.caller.objectId };
    const operation = await beginOperation(trx, engine, { kind: REPLICATE_KIND, ...about });
    const stored = (await getResource(trx, call.id))!;
    return {
      status: created ? 201 : 200,
      resource: stored,
      operation: capsOperation(operation, resource.location!),
    };
  });
}

/** Errors: Conflict, while another operation makes, changes or deletes it. */
async function requireIdle(trx: Transacting, { id, properties }: StoredResource): Promise<void> {
  if (properties.provisioningState !== 'Deleting') {
    if (typeof properties.operation !== 'string') return;
    const open = await trx
      .selectFrom('operation')
      .select('id')
      .where('id', '=', properties.operation)
      .where('status', 'in', OPEN)
      .executeTakeFirst();
    if (!open) return;
  }
  throw new KilnError(
    'Conflict',
    'The request failed due to conflict with a concurrent request. To resolve it, please refer to https://aka.ms/activitylog to get more details on the conflicting requests.',
    { target: id, hint: `Its provisioning state is ${properties.provisioningState}: wait until that is over.` },
  );
}

/** Where its replicas are, also when an update that was to add others has failed. */
function completeRegions({ properties }: StoredResource): string[] {
  const adding: readonly unknown[] = Array.isArray(properties.adding) ? properties.adding : [];
  return targetRegions({ properties })
    .map(({ region }) => region)
    .filter(region => !adding.includes(region));
}

/** A region that a version is in stays, unless the version says that it may go. Errors: Conflict. */
function requireRemovable(existing: StoredResource, changed: StoredResource): void {
  const { safetyProfile } = changed.properties;
  if (isObject(safetyProfile) && safetyProfile.allowDeletionOfReplicatedLocations === true) return;
  const wanted = new Set(targetRegions(changed).map(({ region }) => region));
  // One that it never got to can be given up.
  const gone = completeRegions(existing).filter(region => !wanted.has(region));
  if (gone.length === 0) return;
  throw new KilnError(
    'Conflict',
    `The gallery image version '${existing.name}' cannot be removed from the replicated regions ${gone.join(', ')}: its safetyProfile.allowDeletionOfReplicatedLocations is false.`,
    {
      target: 'properties.publishingProfile.targetRegions',
      hint: 'Set properties.safetyProfile.allowDeletionOfReplicatedLocations to true (az sig image-version update --allow-replicated-location-deletion true).',
    },
  );
}

interface OpenedSource {
  readonly opened: DiskSource;
  readonly architecture: string | undefined;
  /** Where the body names it. */
  readonly path: string;
}

type ForeseenSource = { readonly found: OpenedSource } | { readonly error: unknown };

/**
 * What a body names as its source is looked at before the transaction: that reads files, asks for roles, and takes connections of its own, and whoever waits for
 * one while he holds another may wait for ever. What is wrong with it is only said when all else is in order.
 */
async function foreseen(call: ResourceCall, body: JsonObject): Promise<ForeseenSource | undefined> {
  const { properties } = body;
  const { source } = versionSource(isObject(properties) ? properties.storageProfile : undefined);
  if (!source) return undefined;
  const location = findRegion(String(body.location))?.name ?? '';
  return await openSource(call, source, location).then(
    found => ({ found }),
    (error: unknown) => ({ error }),
  );
}

/** Errors: those of requireDiskSource and sourceReference. */
async function openSource(call: ResourceCall, source: VersionSource, location: string): Promise<OpenedSource> {
  const { environment, caller } = call;
  const viewer = { subscription: call.id.subscription, tenantId: caller.tenantId };
  const { reference, shared } = await sourceReference(environment.database, source, viewer, location);
  const permitted = { action: `${galleryImageVersions.type}/write`, scope: formatId(call.id) };
  // Whom a gallery is shared with needs no role on it.
  if (!shared) await requireDiskSource(call, permitted, reference, { location });
  const opened = await openDiskSource(environment, reference, { location });
  const from = 'id' in reference ? await getResource(environment.database, reference.id) : undefined;
  const architecture = from && opened.kind === 'SharedImage' ? await architectureOf(environment, from) : undefined;
  return { opened, architecture, path: source.path };
}

/** Errors: why there is no such source; InvalidParameter, where it does not fit the definition. */
function requireFit(source: ForeseenSource, definition: StoredResource): void {
  if ('error' in source) throw source.error;
  const { opened, architecture, path } = source.found;
  const violations = misfits(opened, architecture, definition, path);
  if (violations.length > 0) throw violationError(galleryImageVersions.violationCode, violations);
}

async function architectureOf(
  { database }: ResourceCall['environment'],
  { id }: StoredResource,
): Promise<string | undefined> {
  const definition = await getResource(database, parentId(parseId(id))!);
  const { architecture } = definition?.properties ?? {};
  return typeof architecture === 'string' ? architecture : undefined;
}

/** What of a source is not as the image definition says. A VHD says nothing of itself. */
export function misfits(
  source: Pick<DiskSource, 'id' | 'osType' | 'osState' | 'hyperVGeneration'>,
  architecture: string | undefined,
  { properties }: Pick<StoredResource, 'properties'>,
  path: string,
): Violation[] {
  const { id, osType, osState, hyperVGeneration } = source;
  const said = `The resource with id '${id}' has a different`;
  const messages: string[] = [];
  const { hyperVGeneration: generation = 'V1', architecture: wanted = 'x64' } = properties;
  if (hyperVGeneration !== undefined && hyperVGeneration !== generation)
    messages.push(
      `${said} Hypervisor generation ['${hyperVGeneration}'] than the parent gallery image Hypervisor generation ['${generation}']`,
    );
  if (osType !== undefined && osType !== properties.osType)
    messages.push(
      `${said} OS type ['${osType}'] than the parent gallery image OS type generation ['${properties.osType}']`,
    );
  if (architecture !== undefined && architecture !== wanted)
    messages.push(`${said} architecture ['${architecture}'] than the parent gallery image architecture ['${wanted}']`);
  if (osState === 'Generalized' && properties.osState !== 'Generalized')
    messages.push(
      `Cannot create Gallery Image Version from: ${id} since the OS State in the parent gallery image ('${properties.osState}') is not 'Generalized'.`,
    );
  if (osState === 'Specialized' && properties.osState !== 'Specialized')
    messages.push(
      `Cannot create Gallery Image Version from: ${id} since the OS State in the parent gallery image ('${properties.osState}') is not 'Specialized'.`,
    );
  return messages.map(message => ({ path, message }));
}
