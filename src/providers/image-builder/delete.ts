/** The `delete` operation of an image template: its triggers, run outputs and staging go with it; what it has distributed stays (contract 4.5). */
import type { Kysely } from 'kysely';
import { idKey } from '../../arm/ids.ts';
import type { Transacting } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { getResource, patchProperties } from '../store.ts';
import { lastRun } from './last-run.ts';
import { lockTemplate } from './lock.ts';
import { ACTIVE } from './run.ts';
import { removeStaging, removeWithRoles } from './staging.ts';
import { deletionNotAllowed, notAllowed, provisioningState } from './states.ts';

export const DELETE_KIND = 'Microsoft.VirtualMachineImages/imageTemplates/delete';

interface DeleteInput {
  readonly templateId: string;
  /** The state to go back to when the deletion is not carried out. */
  readonly before: string;
}

/** DELETE. Errors: OperationNotAllowed while it is made, changed or built. */
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
    await patchProperties(trx, call.id, { provisioningState: 'Deleting' });
    const input: DeleteInput = { templateId: template.id, before };
    const id = await engine.submit(trx, { kind: DELETE_KIND, resourceId: idKey(call.id), input, where: 'anywhere' });
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

export function deleteHandler({ database }: { readonly database: Kysely<Schema> }): OperationHandler {
  return {
    kind: DELETE_KIND,
    async run(_context, input) {
      const { templateId } = input as DeleteInput;
      await database.transaction().execute(trx => removeTemplate(trx, templateId));
      return null;
    },
    async abandoned(trx, operation) {
      const { templateId, before } = operation.input as DeleteInput;
      await patchProperties(trx, templateId, { provisioningState: before });
      return undefined;
    },
  };
}

/**
 * Removes a template with all that belongs to it, in the caller's transaction; for the deletion of its resource group, too. The caller has made sure that it is
 * not being built. Rows of its runs stay: they are history. False when it was not there.
 */
export async function removeTemplate(trx: Transacting, id: string): Promise<boolean> {
  const template = await getResource(trx, id);
  if (!template) return false;
  await removeStaging(trx, template);
  await trx.deleteFrom('run_output').where('template_id', '=', idKey(id)).execute();
  return await removeWithRoles(trx, template.id);
}
