/** DELETE of an image version: its files go from every region, then its row. A build that has begun from it has a name of its own for the disk. */
import type { Kysely } from 'kysely';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { isObject } from '../../arm/shape.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { Engine } from '../../engine/engine.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { removeFiles, removeStaged } from '../../images/replica.ts';
import { requireConditions } from '../conditions.ts';
import { beginChange } from '../life.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { beginOperation, endOthers, openOperation } from '../resource-operation.ts';
import { getResource, lockResource, patchProperties, removeResource, type StoredResource, waitsFor } from '../store.ts';
import { capsOperation } from './caps-life.ts';

export const DELETE_VERSION_KIND = 'Microsoft.Compute/galleries/images/versions/delete';

interface DeleteInput {
  readonly versionId: string;
}

export async function removeVersion(call: ResourceCall): Promise<Answer> {
  const { database, engine } = call.environment;
  return await database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    if (!existing) return { status: 204 };
    requireConditions(call.conditions, call.id, existing);
    const location = existing.location!;
    const deleting = existing.properties.provisioningState === 'Deleting';
    const going = deleting ? await openOperation(trx, call.id, DELETE_VERSION_KIND) : undefined;
    if (going !== undefined) return { status: 202, operation: capsOperation(going, location) };
    requireDeletable(existing);
    await patchProperties(trx, call.id, { provisioningState: 'Deleting' });
    const input: DeleteInput = { versionId: existing.id };
    const about = { resource: call.id, input, caller: call.caller.objectId };
    const operation = await beginOperation(trx, engine, { kind: DELETE_VERSION_KIND, ...about });
    return { status: 202, operation: capsOperation(operation, location) };
  });
}

/** Errors: Conflict, where the version says that it is to live until its end-of-life date. */
function requireDeletable({ name, id, properties }: StoredResource): void {
  const { safetyProfile, publishingProfile } = properties;
  if (!isObject(safetyProfile) || safetyProfile.blockDeletionBeforeEndOfLife !== true) return;
  const end = isObject(publishingProfile) ? publishingProfile.endOfLifeDate : undefined;
  if (typeof end === 'string' && Date.parse(end) <= Date.now()) return;
  throw new KilnError(
    'Conflict',
    `The gallery image version '${name}' cannot be deleted before its end-of-life date${typeof end === 'string' ? `, ${end}` : ''}: its safetyProfile.blockDeletionBeforeEndOfLife is true.`,
    { target: id, hint: 'Set blockDeletionBeforeEndOfLife to false first.' },
  );
}

export interface DeleteVersionEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
  /** Read when the operation runs. */
  readonly engine: Engine;
}

export function deleteVersionHandler(environment: DeleteVersionEnvironment): OperationHandler {
  const { database, home } = environment;
  return {
    kind: DELETE_VERSION_KIND,
    async run({ id: operationId, signal }, input) {
      const { versionId } = input as DeleteInput;
      // A worker has done it, and died before it could say so; somebody may have made it anew since.
      if (!waitsFor(await getResource(database, versionId), operationId, ['Deleting'])) return null;
      try {
        const ended = await endOthers(environment, versionId, operationId, signal);
        for (const other of ended) await removeStaged(home.root, other);
        await removeFiles(home.root, versionId);
        await whenReachable(
          () =>
            database.transaction().execute(async trx => {
              await lockResource(trx, versionId);
              if (waitsFor(await getResource(trx, versionId), operationId, ['Deleting']))
                await removeResource(trx, versionId);
            }),
          signal,
        );
        return null;
      } catch (error) {
        if (asKilnError(signal.aborted ? signal.reason : error).code !== 'WorkerLost')
          await whenReachable(() => database.transaction().execute(trx => giveUp(trx, versionId, operationId))).catch(
            () => undefined,
          );
        throw error;
      }
    },
    async abandoned(trx, operation) {
      const { versionId } = operation.input as DeleteInput;
      const kept = await giveUp(trx, versionId, operation.id);
      return kept || operation.status !== 'Running' ? undefined : { status: 'Succeeded', output: null };
    },
  };
}

/** False when the version does not wait for the deletion any more. It can be deleted again. */
async function giveUp(trx: Transacting, versionId: string, operationId: string): Promise<boolean> {
  await lockResource(trx, versionId);
  if (!waitsFor(await getResource(trx, versionId), operationId, ['Deleting'])) return false;
  await patchProperties(trx, versionId, { provisioningState: 'Failed' });
  return true;
}
