/** Managed images as the front door serves them (contract 2.4): made from VHDs by an operation; afterwards only their tags change. */
import { randomUUID } from 'node:crypto';
import { KilnError } from '../../arm/errors.ts';
import { formatId, resourceGroupId, sameId } from '../../arm/ids.ts';
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import { type Resource, violationError } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { requireConditions } from '../conditions.ts';
import { beginChange, putValidated, requireResource } from '../life.ts';
import type { Answer, ResourceCall, ResourceProvider } from '../provider.ts';
import { beginOperation } from '../resource-operation.ts';
import { getResource, type StoredResource } from '../store.ts';
import { withoutSignatures } from './blob-address.ts';
import { requireDiskSource } from './disk-source.ts';
import { IMAGE_CREATE_KIND, IMAGE_CREATE_SECONDS, type ImageInput } from './image-create.ts';
import { deleteImage } from './image-delete.ts';
import { imageDiskSources, sourceViolations } from './image-sources.ts';
import { type ImageProperties, images, readImage } from './images.ts';

export const imagesProvider: ResourceProvider = Object.freeze({
  definition: images,
  put,
  patch,
  remove: deleteImage,
  show: shownImage,
} satisfies ResourceProvider);

/** Errors: those of putValidated; LinkedAuthorizationFailed; what is wrong with a source; PropertyChangeNotAllowed, OperationNotAllowed. */
async function put(call: ResourceCall, given: JsonObject): Promise<Answer> {
  const { environment, apiVersion, conditions } = call;
  const { database, engine } = environment;
  await requireResource(database, resourceGroupId(call.id.subscription, call.id.resourceGroup!));
  const named = images.checkName(call.id.name);
  if (named) throw violationError(images.violationCode, [named]);
  const read = readBody(call, given);
  if (read.violations.length > 0) throw violationError(images.violationCode, read.violations);
  if (!isToMake(await getResource(database, call.id))) return await change(call, read);
  const violations = sourceViolations(read.properties);
  if (violations.length > 0) throw violationError(images.violationCode, violations);
  const id = formatId(call.id);
  const { location } = read;
  for (const { uri, path } of await imageDiskSources(database, read.properties))
    await requireDiskSource(call, { action: `${images.type}/write`, scope: id }, { uri, path }, { location });
  const made = await database.transaction().execute(async (trx): Promise<Answer | undefined> => {
    const { existing } = await beginChange(trx, call.id);
    if (!isToMake(existing)) return undefined;
    const body = { location, tags: read.tags, properties: withoutSignatures(read.properties, 'blobUri') };
    const known = { provisioningState: 'Creating' };
    const { resource, created } = await putValidated(trx, images, { id, body, apiVersion, conditions, known });
    const input: ImageInput = { imageId: resource.id };
    const about = { resource: id, input, caller: call.caller.objectId, timeoutSeconds: IMAGE_CREATE_SECONDS };
    const operation = await beginOperation(trx, engine, { kind: IMAGE_CREATE_KIND, ...about });
    return { status: created ? 201 : 200, resource, operation: { id: operation, location } };
  });
  // Somebody else has just begun to make it.
  return made ?? (await change(call, read));
}

/** Errors: PropertyChangeNotAllowed, OperationNotAllowed. */
async function patch(call: ResourceCall, given: JsonObject): Promise<Answer> {
  const existing = await getResource(call.environment.database, call.id);
  const { tags, properties } = given;
  const read = readBody(call, {
    location: existing?.location,
    tags: tags ?? existing?.tags,
    // What a body leaves out stays as it is: nothing in it is missing.
    properties: isObject(properties) ? {} : undefined,
  });
  if (read.violations.length > 0) throw violationError(images.violationCode, read.violations);
  return await change(call, {
    ...read,
    properties: (isObject(properties) ? properties : {}) as ImageProperties,
  });
}

const isToMake = (image: StoredResource | undefined): boolean =>
  image === undefined || image.properties.provisioningState === 'Failed';

function readBody(call: ResourceCall, body: JsonObject) {
  const { id, apiVersion } = call;
  return readImage(body, { id, apiVersion, now: new Date(), newGuid: randomUUID, siblings: [], local: false });
}

/** Of an image that is there, or being made: its tags. */
async function change(
  call: ResourceCall,
  wanted: {
    readonly location: string;
    readonly tags: Readonly<Record<string, string>>;
    readonly properties: Partial<ImageProperties>;
  },
): Promise<Answer> {
  const { apiVersion, conditions, id } = call;
  return await call.environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, id);
    requireConditions(conditions, id, existing);
    if (!existing) throw new KilnError('ResourceNotFound', 'The resource was deleted meanwhile.');
    const { provisioningState, operation } = existing.properties;
    if (provisioningState === 'Deleting')
      throw new KilnError(
        'OperationNotAllowed',
        `Operation 'write' is not allowed on Image '${existing.name}' since the Image is marked for deletion. You can only retry the Delete operation (or wait for an ongoing one to complete).`,
        { target: existing.id },
      );
    const [first] = changes(withoutSignatures(wanted.properties, 'blobUri'), existing.properties, ['properties']);
    if (first)
      throw new KilnError(
        'PropertyChangeNotAllowed',
        `Changing property 'image.${formatPath(first)}' is not allowed.`,
        {
          target: formatPath(first),
          hint: 'Only tags may be updated.',
        },
      );
    const body = { location: wanted.location, tags: wanted.tags, properties: existing.properties };
    // What is known is all of it.
    const known = existing.properties;
    const { resource } = await putValidated(trx, images, { id: existing.id, body, apiVersion, conditions, known });
    const isMade = provisioningState === 'Creating' && typeof operation === 'string';
    return { status: 200, resource, ...(isMade && { operation: { id: operation, location: resource.location! } }) };
  });
}

/** Where `given` says something else than what is there. */
function changes(given: unknown, existing: unknown, path: JsonPath): JsonPath[] {
  if (given === undefined || given === null) return [];
  if (Array.isArray(given)) {
    if (!Array.isArray(existing) || existing.length !== given.length) return [path];
    return given.flatMap((item, index) => changes(item, existing[index], [...path, index]));
  }
  if (isObject(given))
    return Object.entries(given)
      .filter(([name]) => name !== 'provisioningState')
      .flatMap(([name, value]) => changes(value, isObject(existing) ? existing[name] : undefined, [...path, name]));
  if (given === existing) return [];
  const isId = typeof given === 'string' && typeof existing === 'string' && given.startsWith('/');
  return isId && sameId(given, existing) ? [] : [path];
}

/** In the order of the real service. The operation that an image waits for is nobody's business. */
function shownImage({ location, tags, properties }: Resource): JsonObject {
  const { storageProfile, provisioningState, hyperVGeneration, sourceVirtualMachine } = properties;
  const { osDisk, dataDisks, zoneResilient } = storageProfile as JsonObject;
  const { osType, osState, diskSizeGB, ...rest } = osDisk as JsonObject;
  return {
    location,
    tags: tags ?? {},
    properties: {
      ...(sourceVirtualMachine !== undefined && { sourceVirtualMachine }),
      storageProfile: {
        osDisk: { osType, osState, ...(diskSizeGB !== undefined && { diskSizeGB }), ...rest },
        dataDisks: dataDisks ?? [],
        ...(zoneResilient !== undefined && { zoneResilient }),
      },
      provisioningState,
      hyperVGeneration,
    },
  };
}
