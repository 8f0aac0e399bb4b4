/** The `delete` operation of an image template: its triggers, run outputs and staging go with it; what it has distributed stays (contract 4.5). */
import type { Kysely } from 'kysely';
import { idKey } from '../../arm/ids.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import type { OperationRow, Schema } from '../../database/schema.ts';
import { OPEN, type OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { requireConditions } from '../conditions.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { removeImages } from '../resources/group-images.ts';
import { getResource, patchProperties, type StoredResource, waitsFor, writeOperation } from '../store.ts';
import { lastRun } from './last-run.ts';
import { lockTemplate } from './lock.ts';
import { dropOrphansIn } from './orphan-layers.ts';
import { removeTemplate, requireIdleStaging, requireUnlockedStaging } from './remove.ts';
import { ACTIVE } from './run.ts';
import { stagingOf } from './staging.ts';
import { deletionNotAllowed, notAllowed, provisioningState } from './states.ts';

export const DELETE_KIND = 'Microsoft.VirtualMachineImages/imageTemplates/delete';

interface DeleteInput {
  readonly templateId: string;
  /** The state to go back to when the deletion is not carried out. */
  readonly before: string;
  /** The staging group that goes with it. */
  readonly staging?: string;
}

/** DELETE. Errors: OperationNotAllowed while it is made, changed or built; ScopeLocked; Conflict while a template in its staging group is built. */
export async function deleteTemplate(call: ResourceCall): Promise<Answer> {
  const { database, engine } = call.environment;
  return await database.transaction().execute(async trx => {
    await lockTemplate(trx, idKey(call.id));
    const template = await getResource(trx, call.id);
    if (!template) return { status: 204 };
    requireConditions(call.conditions, call.id, template);
    const location = template.location!;
    const state = provisioningState(template);
    const last = state === 'Deleting' ? await lastDeletion(trx, template) : undefined;
    if (last && OPEN.includes(last.status)) return { status: 202, operation: { id: last.id, location } };
    // One that ended without a word, as when the database failed it: that one knew what was before.
    const before = state === 'Deleting' ? ((last?.input as DeleteInput | undefined)?.before ?? 'Failed') : state;
    if (before === 'Creating' || before === 'Updating') throw deletionNotAllowed(template);
    const run = await lastRun(trx, template);
    if (run && ACTIVE.includes(run.state))
      throw notAllowed('delete', template, run.state, `Run ${run.id} has to end first; cancel it, or wait.`);
    await requireUnlockedStaging(trx, template);
    await requireIdleStaging(trx, template);
    await patchProperties(trx, call.id, { provisioningState: 'Deleting' });
    const staging = stagingOf(template);
    const input: DeleteInput = { templateId: template.id, before, ...(staging?.made && { staging: staging.group }) };
    const id = await engine.submit(trx, { kind: DELETE_KIND, resourceId: idKey(call.id), input, where: 'anywhere' });
    await writeOperation(trx, call.id, id);
    await trx.updateTable('operation').set({ caller: call.caller.objectId }).where('id', '=', id).execute();
    return { status: 202, operation: { id, location } };
  });
}

async function lastDeletion(trx: Transacting, { properties }: StoredResource): Promise<OperationRow | undefined> {
  if (typeof properties.operation !== 'string') return undefined;
  return await trx
    .selectFrom('operation')
    .selectAll()
    .where('id', '=', properties.operation)
    .where('kind', '=', DELETE_KIND)
    .executeTakeFirst();
}

export function deleteHandler({
  database,
  home,
}: {
  readonly database: Kysely<Schema>;
  readonly home: Home;
}): OperationHandler {
  /** Under the template's lock. What does not wait any more has been deleted by a worker that died before it could say so, and may have been made anew. */
  const whileWaiting = <T>(operation: string, templateId: string, write: (trx: Transacting) => Promise<T>) =>
    whenReachable(() =>
      database.transaction().execute(async trx => {
        await lockTemplate(trx, templateId);
        return waitsFor(await getResource(trx, templateId), operation, ['Deleting']) ? await write(trx) : undefined;
      }),
    );
  return {
    kind: DELETE_KIND,
    async run({ id }, input) {
      const { templateId, before, staging } = input as DeleteInput;
      const groups = await whileWaiting(id, templateId, trx => removeTemplate(trx, templateId)).catch(async error => {
        await whileWaiting(id, templateId, trx => patchProperties(trx, templateId, { provisioningState: before }));
        throw error;
      });
      // A worker may have died between the two.
      for (const group of new Set([...(groups ?? []), ...(staging === undefined ? [] : [staging])]))
        if (!(await getResource(database, group))) await removeImages(home, group);
      await dropOrphansIn(home.cache, database);
      return null;
    },
    async abandoned(trx, operation) {
      const { templateId, before } = operation.input as DeleteInput;
      await lockTemplate(trx, templateId);
      if (!waitsFor(await getResource(trx, templateId), operation.id, ['Deleting']))
        return operation.status === 'Running' ? { status: 'Succeeded', output: null } : undefined;
      await patchProperties(trx, templateId, { provisioningState: before });
      return undefined;
    },
  };
}
