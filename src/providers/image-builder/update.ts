/**
 * PATCH of an image template (contract 4.4), and its operation: what the change links to is checked, then all of it is written at once. An update that fails
 * changes nothing.
 */
import { asKilnError } from '../../arm/errors.ts';
import { formatId, idKey } from '../../arm/ids.ts';
import { violationError } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import { json } from '../../database/json.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import { requireConditions } from '../conditions.ts';
import { notFoundError, requireResource } from '../life.ts';
import type { Answer, ProviderEnvironment, ResourceCall } from '../provider.ts';
import { getResource, patchProperties, waitsFor, writeOperation } from '../store.ts';
import { runAutomatically } from './create.ts';
import { templateOf } from './image-templates.ts';
import { lastRun } from './last-run.ts';
import {
  type Acting,
  actingIdentity,
  buildLinks,
  distributeLinks,
  handedLinks,
  identityIds,
  requireLinks,
  requireRights,
  requireTargets,
} from './links.ts';
import { lockTemplate } from './lock.ts';
import { requireNetwork } from './network.ts';
import { readPatch, type TemplateChange } from './patch.ts';
import { ACTIVE } from './run.ts';
import { requireSameKind } from './same-kind.ts';
import type { TemplateIdentity } from './schema.ts';
import { openTemplate, sealUrls } from './sealed-urls.ts';
import { sourceOf } from './source-image.ts';
import { reassignStaging } from './staging.ts';
import { notAllowed, provisioningState } from './states.ts';
import { requireTriggersFit } from './triggers-fit.ts';

export const UPDATE_KIND = 'Microsoft.VirtualMachineImages/imageTemplates/update';

interface UpdateInput {
  readonly templateId: string;
  /** As it is stored: with secrets in its URLs sealed. */
  readonly change: TemplateChange;
  /** The state to go back to. */
  readonly before: string;
  readonly caller: string;
}

/** 202 with the operation. Errors: ValidationFailed, LinkedAuthorizationFailed, OperationNotAllowed. */
export async function patchTemplate(call: ResourceCall, body: JsonObject): Promise<Answer> {
  for (;;) {
    // Somebody else may change the template between the look at it and the change.
    const answer = await tryPatch(call, body);
    if (answer) return answer;
  }
}

async function tryPatch(call: ResourceCall, body: JsonObject): Promise<Answer | undefined> {
  const { database, engine, home } = call.environment;
  const stored = await getResource(database, call.id);
  if (!stored) throw await notFoundError(database, call.id);
  const template = await openTemplate(stored, home);
  const { change, violations } = readPatch(body, template, call.apiVersion);
  if (violations.length > 0) throw violationError('ValidationFailed', violations);
  await requireLinks(call, template.id, handedLinks(change.identity, change.vmProfile));
  // Nobody acts for a template without identity but who changes it.
  if (identityIds(change.identity ?? (template.identity as TemplateIdentity | undefined)).length === 0)
    await requireLinks(call, template.id, (change.distribute ?? []).flatMap(distributeLinks));

  const kept = await sealUrls(change, template.id, home);
  return await database.transaction().execute(async trx => {
    await lockTemplate(trx, idKey(call.id));
    const now = await requireResource(trx, formatId(call.id));
    requireConditions(call.conditions, call.id, now);
    const run = await lastRun(trx, now);
    const before = provisioningState(now);
    const busy = run !== undefined && ACTIVE.includes(run.state);
    const harmless = change.identity === undefined && change.distribute === undefined && change.vmProfile === undefined;
    if (['Creating', 'Updating', 'Deleting'].includes(before) || (busy && !harmless))
      throw notAllowed('write', now, run?.state);
    if (now.etag !== template.etag) return undefined;
    if (change.distribute)
      await requireTriggersFit(trx, { ...now, properties: { ...now.properties, distribute: change.distribute } });
    await patchProperties(trx, call.id, { provisioningState: 'Updating' });
    const caller = call.caller.objectId;
    const input: UpdateInput = { templateId: now.id, change: kept, before, caller };
    const id = await engine.submit(trx, { kind: UPDATE_KIND, resourceId: idKey(call.id), input, where: 'anywhere' });
    await writeOperation(trx, call.id, id);
    await trx.updateTable('operation').set({ caller }).where('id', '=', id).execute();
    return { status: 202, operation: { id, location: now.location! } };
  });
}

export function updateHandler(environment: ProviderEnvironment): OperationHandler {
  const { database } = environment;
  /** Under the template's lock, if the template still waits for the operation. */
  const whileWaiting = (operation: string, templateId: string, write: (trx: Transacting) => Promise<unknown>) =>
    whenReachable(() =>
      database.transaction().execute(async trx => {
        await lockTemplate(trx, templateId);
        if (waitsFor(await getResource(trx, templateId), operation, ['Updating'])) await write(trx);
      }),
    );
  return {
    kind: UPDATE_KIND,
    async run({ id }, input) {
      const { templateId, change, before, caller } = input as UpdateInput;
      try {
        const stored = await getResource(database, templateId);
        // A worker has done it, and died before it could say so.
        if (!waitsFor(stored, id, ['Updating'])) return { templateId };
        const template = templateOf(stored);
        const acting = await actingAfter(environment, template.identity, change);
        if (acting && (change.distribute || change.vmProfile))
          await requireRights(
            database,
            acting,
            buildLinks({ ...template.properties, ...(change as Partial<typeof template.properties>) }, [acting.id]),
          );
        if (change.vmProfile) await requireNetwork(database, stored, change.vmProfile);
        if (change.distribute) {
          const distribute = change.distribute as typeof template.properties.distribute;
          const definitions = await requireTargets(database, distribute);
          // A source that is gone is the next build's trouble.
          const image = await sourceOf(template, environment).catch(error => {
            if (asKilnError(error).code === 'SourceNotFound') return undefined;
            throw error;
          });
          if (image && !image.replaced) requireSameKind(definitions, image);
        }
        const { tags, identity, ...properties } = change;
        await whileWaiting(id, templateId, async trx => {
          // Once more: now they stay, and then the template is seen to use them.
          if (change.vmProfile) await requireNetwork(trx, stored, change.vmProfile);
          await patchProperties(trx, templateId, { ...properties, provisioningState: before });
          const columns = {
            ...(tags && { tags: json(tags as Record<string, string>) }),
            ...(identity && { identity: json<unknown>(identityColumn(identity, acting)) }),
          };
          if (tags || identity)
            await trx.updateTable('resource').set(columns).where('id', '=', idKey(templateId)).execute();
          if (identity) await reassignStaging(trx, stored, principalOf(template.identity), acting?.principalId);
          if ((properties.distribute || properties.vmProfile) && before === 'Succeeded')
            await runAutomatically(environment, trx, templateId, caller);
        });
      } catch (thrown) {
        const error = asKilnError(thrown);
        if (error.code !== 'WorkerLost')
          await whileWaiting(id, templateId, trx => patchProperties(trx, templateId, { provisioningState: before }));
        throw error;
      }
      return { templateId };
    },
    async abandoned(trx, operation) {
      const { templateId, before } = operation.input as UpdateInput;
      await lockTemplate(trx, templateId);
      if (waitsFor(await getResource(trx, templateId), operation.id, ['Updating']))
        await patchProperties(trx, templateId, { provisioningState: before });
      return undefined;
    },
  };
}

/** A new identity has to be there; the old one only where the change needs somebody to act. */
async function actingAfter(
  { database }: ProviderEnvironment,
  before: TemplateIdentity | undefined,
  { identity, distribute, vmProfile }: TemplateChange,
): Promise<Acting | undefined> {
  if (identity) return await actingIdentity(database, identity);
  return distribute || vmProfile ? await actingIdentity(database, before) : undefined;
}

const identityColumn = (identity: TemplateIdentity, acting: Acting | undefined): TemplateIdentity =>
  acting
    ? {
        type: 'UserAssigned',
        userAssignedIdentities: { [acting.id]: { principalId: acting.principalId, clientId: acting.clientId } },
      }
    : identity;

function principalOf(identity: TemplateIdentity | undefined): string | undefined {
  const [known] = Object.values(identity?.userAssignedIdentities ?? {}) as { principalId?: string }[];
  return known?.principalId;
}
