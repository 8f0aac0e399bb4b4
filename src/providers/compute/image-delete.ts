/** The `delete` operation of a managed image: first nobody finds it any more, then its files go. Not while something is made from it. */
import { sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey } from '../../arm/ids.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import { requireConditions } from '../conditions.ts';
import { ACTIVE } from '../image-builder/run.ts';
import type { Answer, ProviderEnvironment, ResourceCall } from '../provider.ts';
import { beginOperation, endOthers, openOperation } from '../resource-operation.ts';
import { getResource, lockResource, patchProperties, removeResource, type StoredResource, waitsFor } from '../store.ts';
import { type ImageInput, removeDisks } from './image-create.ts';

export const IMAGE_DELETE_KIND = 'Microsoft.Compute/images/delete';

interface DeleteInput extends ImageInput {
  /** The state to go back to when the deletion is not carried out. */
  readonly before: string;
}

/** DELETE. One that is being made is given up. Errors: OperationNotAllowed while something is made from it. */
export async function deleteImage(call: ResourceCall): Promise<Answer> {
  const { database, engine } = call.environment;
  const key = idKey(call.id);
  return await database.transaction().execute(async trx => {
    await lockResource(trx, key);
    const image = await getResource(trx, key);
    if (!image) return { status: 204 };
    requireConditions(call.conditions, call.id, image);
    const location = image.location!;
    const before = String(image.properties.provisioningState);
    if (before === 'Deleting') {
      const open = await openOperation(trx, key, IMAGE_DELETE_KIND);
      if (open !== undefined) return { status: 202, operation: { id: open, location } };
    }
    await requireUnused(trx, image);
    await patchProperties(trx, key, { provisioningState: 'Deleting' });
    // What was being made is nothing when it is given up.
    const input: DeleteInput = { imageId: image.id, before: before === 'Succeeded' ? before : 'Failed' };
    const about = { resource: key, input, caller: call.caller.objectId };
    const id = await beginOperation(trx, engine, { kind: IMAGE_DELETE_KIND, ...about });
    return { status: 202, operation: { id, location } };
  });
}

/** Neither a build nor a gallery's version reads its disk. */
async function requireUnused(trx: Transacting, image: StoredResource): Promise<void> {
  const key = idKey(image.id);
  const refused = (what: string, hint: string) =>
    new KilnError(
      'OperationNotAllowed',
      `Operation 'delete' is not allowed since ${what} using the Image '${image.name}'.`,
      {
        target: image.id,
        hint,
      },
    );
  const run = await trx
    .selectFrom('run')
    .innerJoin('resource', 'resource.id', 'run.template_id')
    .select(['run.id', 'run.template_name'])
    .where('run.state', 'in', ACTIVE)
    .where(sql<boolean>`lower(resource.properties->'source'->>'imageId') = ${key}`)
    .executeTakeFirst();
  if (run)
    throw refused(
      `the image template '${run.template_name}' is being built`,
      `Run ${run.id} has to end first; cancel it, or wait.`,
    );
  const version = await trx
    .selectFrom('resource')
    .select('display_id')
    .where(sql<boolean>`lower(type) = 'microsoft.compute/galleries/images/versions'`)
    .where(sql<boolean>`lower(properties->'storageProfile'->'source'->>'id') = ${key}`)
    .where(sql<boolean>`properties->>'provisioningState' in ('Creating', 'Updating')`)
    .executeTakeFirst();
  if (version)
    throw refused('a gallery image version is being created', `${version.display_id} has to be created first.`);
}

export function deleteImageHandler(
  environment: Pick<ProviderEnvironment, 'database' | 'home'> & { readonly engine: ProviderEnvironment['engine'] },
): OperationHandler {
  const { database } = environment;
  return {
    kind: IMAGE_DELETE_KIND,
    async run({ id, signal }, input) {
      const { imageId } = input as DeleteInput;
      await endOthers(environment, imageId, id, signal);
      await whenReachable(
        () =>
          database.transaction().execute(async trx => {
            await lockResource(trx, imageId);
            if (waitsFor(await getResource(trx, imageId), id, ['Deleting'])) await removeResource(trx, imageId);
          }),
        signal,
      );
      // A worker may have died between the two. Where it was made anew since, the files are the new one's affair.
      if (!(await getResource(database, imageId))) await removeDisks(environment, imageId);
      return null;
    },
    async abandoned(trx, operation) {
      const { imageId, before } = operation.input as DeleteInput;
      await lockResource(trx, imageId);
      if (!waitsFor(await getResource(trx, imageId), operation.id, ['Deleting']))
        return operation.status === 'Running' ? { status: 'Succeeded', output: null } : undefined;
      await patchProperties(trx, imageId, { provisioningState: before });
      return undefined;
    },
  };
}
