/** The `delete` operation of an image template: its triggers, run outputs and staging go with it; what it has distributed stays (contract 4.5). */
import type { Kysely } from 'kysely';
import { idKey } from '../../arm/ids.ts';
import type { Transacting } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { removeImages } from '../resources/group-images.ts';
import { getResource, patchProperties, waitsFor, writeOperation } from '../store.ts';
import { lastRun } from './last-run.ts';
import { lockTemplate } from './lock.ts';
import { removeTemplate, requireIdleStaging } from './remove.ts';
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

/** DELETE. Errors: OperationNotAllowed while it is made, changed or built; Conflict while a template in its staging group is built. */
export async function deleteTemplate(call: ResourceCall): Promise<Answer> {
  const { database, engine } = call.environment;
  return await database.transaction().execute(async trx => {
    await lockTemplate(trx, idKey(call.id));
    const template = await getResource(trx, call.id);
    if (!template) return { status: 204 };
    const location = template.location!;
    const before = provisioningState(template);
    if (before === 'Deleting') {
      const open = await openDeletion(trx, idKey(call.id));
      if (open !== undefined) return { status: 202, operation: { id: open, location } };
    }
    if (before === 'Creating' || before === 'Updating') throw deletionNotAllowed(template);
    const run = await lastRun(trx, template);
    if (run && ACTIVE.includes(run.state))
      throw notAllowed('delete', template, run.state, `Run ${run.id} has to end first; cancel it, or wait.`);
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

async function openDeletion(trx: Transacting, key: string): Promise<string | undefined> {
  const row = await trx
    .selectFrom('operation')
    .select('id')
    .where('resource_id', '=', key)
    .where('kind', '=', DELETE_KIND)
    .where('status', 'in', ['NotStarted', 'Running'])
    .executeTakeFirst();
  return row?.id;
}

export function deleteHandler({
  database,
  home,
}: {
  readonly database: Kysely<Schema>;
  readonly home: Home;
}): OperationHandler {
  return {
    kind: DELETE_KIND,
    async run({ id }, input) {
      const { templateId, staging } = input as DeleteInput;
      const groups = await database.transaction().execute(async trx => {
        await lockTemplate(trx, templateId);
        // A worker has done it, and died before it could say so; somebody may have made it anew since.
        return waitsFor(await getResource(trx, templateId), id, ['Deleting'])
          ? await removeTemplate(trx, templateId)
          : [];
      });
      // A worker may have died between the two.
      for (const group of new Set([...groups, ...(staging === undefined ? [] : [staging])]))
        if (!(await getResource(database, group))) await removeImages(home, group);
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
