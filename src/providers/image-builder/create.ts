/**
 * The `create` operation of an image template (contract 1.5): its identity is looked at, its staging resource group made, its links are checked, its scripts
 * and files fetched and kept, its source is looked up. Until it has succeeded the template cannot be run; when it fails, the template keeps the reason
 * (`provisioningError`) and can only be deleted.
 */
import type { Kysely } from 'kysely';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { idKey, parseId, sameText } from '../../arm/ids.ts';
import { publicMessage } from '../../arm/public-error.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import { json } from '../../database/json.ts';
import type { Schema } from '../../database/schema.ts';
import type { Engine } from '../../engine/engine.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { download } from '../../images/catalogue/download.ts';
import { type Conditions, requireConditions } from '../conditions.ts';
import { elsewhereError, putValidated, requireResource } from '../life.ts';
import type { ProviderEnvironment } from '../provider.ts';
import { getResource, patchProperties, type StoredResource, waitsFor, writeOperation } from '../store.ts';
import { imageTemplates, templateOf } from './image-templates.ts';
import { lastRun } from './last-run.ts';
import { type Acting, actingIdentity, buildLinks, requireRights, requireTargets } from './links.ts';
import { lockTemplate } from './lock.ts';
import { requireNetwork } from './network.ts';
import { prepareTemplate, provisioningErrorCode } from './prepare.ts';
import { activeRun, runInProgress, startRun } from './run.ts';
import { requireSameKind } from './same-kind.ts';
import { openTemplate, sealUrls } from './sealed-urls.ts';
import { exactVersionOf, type SourceEnvironment, sourceOf } from './source-image.ts';
import { openStaging, stagingOf } from './staging.ts';
import { notAllowed, provisioningState } from './states.ts';
import { requireTriggersFit } from './triggers-fit.ts';

export const CREATE_KIND = 'Microsoft.VirtualMachineImages/imageTemplates/create';

export interface PutTemplateOptions {
  readonly id: string;
  /** Untrusted JSON. */
  readonly body: JsonObject;
  readonly apiVersion: string;
  /** `kiln build`: local files are allowed, an identity is not demanded, a template that is there is replaced; nothing is staged and no role asked for. */
  readonly local: boolean;
  /** Replace a template that is there, where Azure refuses. */
  readonly revise?: boolean;
  /** A catalogue file that wins over the state directory's; from the command line only. */
  readonly catalogue?: string;
  readonly where: 'here' | 'anywhere';
  /** Whose key secrets in URLs are encrypted with. */
  readonly home: Pick<Home, 'root'>;
  /** Object id. */
  readonly caller?: string;
  readonly conditions?: Conditions | undefined;
}

interface CreateInput {
  readonly templateId: string;
  readonly local: boolean;
  readonly catalogue?: string;
  /** Who a run that follows is for. */
  readonly caller?: string;
}

export interface PutTemplate {
  /** The operation. */
  readonly operation: string;
  readonly resource: StoredResource;
  readonly created: boolean;
}

/** Stores the template and begins its creation, in one transaction. Errors: those of putValidated, RunInProgress, OperationNotAllowed. */
export async function putTemplate(
  engine: Engine,
  database: Kysely<Schema>,
  options: PutTemplateOptions,
): Promise<PutTemplate> {
  const { id, body, apiVersion, local, catalogue, where, home, caller, conditions } = options;
  const revise = local || (options.revise ?? false);
  return await database.transaction().execute(async trx => {
    await lockTemplate(trx, id);
    const existing = await getResource(trx, id);
    requireConditions(conditions, id, existing);
    const active = await activeRun(trx, id);
    // Who may not replace it is told so by putValidated, running or not.
    if (revise && active) throw local ? await runInProgress(trx, id) : notAllowed('write', existing!, active.state);
    if (revise && existing && !local) await requireReplaceable(trx, existing);
    const { resource, created } = await putValidated(trx, imageTemplates, {
      id,
      body,
      apiVersion,
      local,
      revise,
      ...(existing && { known: keptOf(existing) }),
      kept: properties => sealUrls(properties, id, home),
    });
    if (existing && !local) {
      requireSamePlace(existing, resource);
      await requireTriggersFit(trx, resource);
    }
    const input: CreateInput = {
      templateId: resource.id,
      local,
      ...(catalogue !== undefined && { catalogue }),
      ...(caller !== undefined && { caller }),
    };
    const operation = await engine.submit(trx, {
      kind: CREATE_KIND,
      resourceId: idKey(id),
      input,
      where,
      ...(!local && { timeoutSeconds: CREATE_SECONDS }),
    });
    await writeOperation(trx, id, operation);
    if (caller !== undefined) await trx.updateTable('operation').set({ caller }).where('id', '=', operation).execute();
    return { operation, resource, created };
  });
}

/** Of a File customizer; whoever builds at this host knows its disk. Azure takes 20 MB. */
const MOST_FILE_BYTES = 4 * 1024 ** 3;
/** A server that sends a byte now and then holds a creation no longer than this. */
const CREATE_SECONDS = 3600;

const keptOf = ({ properties: { exactStagingResourceGroup, staging } }: StoredResource): JsonObject => ({
  ...(exactStagingResourceGroup !== undefined && { exactStagingResourceGroup }),
  ...(staging !== undefined && { staging }),
  provisioningState: 'Updating',
});

async function requireReplaceable(trx: Transacting, existing: StoredResource): Promise<void> {
  if (['Creating', 'Updating', 'Deleting'].includes(provisioningState(existing)))
    throw notAllowed('write', existing, (await lastRun(trx, existing))?.state);
}

/** What a revision cannot change: where the template is, and where it stages. */
function requireSamePlace(before: StoredResource, after: StoredResource): void {
  if (before.location !== after.location) throw elsewhereError(before, after.location, 'location');
  if (before.properties.stagingResourceGroup !== after.properties.stagingResourceGroup && stagingOf(before))
    throw new KilnError('PropertyChangeNotAllowed', "Changing property 'stagingResourceGroup' is not allowed.", {
      target: 'properties.stagingResourceGroup',
    });
}

const MAKING = ['Creating', 'Updating'];

export function createHandler(environment: ProviderEnvironment): OperationHandler {
  const { database } = environment;
  /** Under the template's lock, if the template still waits for the operation. */
  const whileWaiting = (operation: string, templateId: string, write: (trx: Transacting) => Promise<void>) =>
    whenReachable(() =>
      database.transaction().execute(async trx => {
        await lockTemplate(trx, templateId);
        if (waitsFor(await getResource(trx, templateId), operation, MAKING)) await write(trx);
      }),
    );
  return {
    kind: CREATE_KIND,
    async run({ id, signal }, input) {
      const { templateId, local, catalogue, caller } = input as CreateInput;
      const sources = { database, home: environment.home, ...(catalogue !== undefined && { catalogue }) };
      let acting: Acting | undefined;
      try {
        let stored = await getResource(database, templateId);
        // A worker has done it, and died before it could say so.
        if (!waitsFor(stored, id, MAKING)) return { templateId };
        const template = templateOf(await openTemplate(stored, environment.home));
        if (!local) {
          acting = await actingIdentity(database, template.identity);
          stored = await openStaging(database, stored, acting);
          if (acting) await requireRights(database, acting, buildLinks(template.properties, [acting.id]));
          await requireNetwork(database, stored, template.properties.vmProfile);
        }
        await checkPlaces(stored, sources, local);
        const { template: prepared } = await prepareTemplate(template, {
          files: environment.home.files,
          owner: id,
          signal,
          download: (url, { onProgress: _, ...options }) =>
            download(url, {
              ...(!local && { maxBytes: MOST_FILE_BYTES }),
              ...options,
              allowFile: local,
              allowLocal: local || environment.options.localDownloads,
              own: environment.doorway?.door,
              as: acting?.principalId,
            }),
        });
        const exactVersion = await exactVersionOf(prepared, sources, signal);
        const kept = await sealUrls(prepared.properties, templateId, environment.home);
        await whileWaiting(id, templateId, async trx => {
          const { source, ...rest } = kept;
          await patchProperties(trx, templateId, {
            ...rest,
            source: { ...source, ...(exactVersion !== undefined && { exactVersion }) },
            provisioningState: 'Succeeded',
          });
          await writeIdentity(trx, templateId, acting);
          if (!local) await runAutomatically(environment, trx, templateId, caller);
        });
      } catch (thrown) {
        const error = asKilnError(thrown);
        // Another worker makes the template now.
        if (error.code !== 'WorkerLost')
          await whileWaiting(id, templateId, async trx => {
            await writeFailure(trx, templateId, error);
            await writeIdentity(trx, templateId, acting);
          });
        throw error;
      }
      return { templateId };
    },
    async abandoned(trx, operation, error) {
      const { templateId } = operation.input as CreateInput;
      await lockTemplate(trx, templateId);
      const stored = await getResource(trx, templateId);
      if (waitsFor(stored, operation.id, ['Succeeded'])) return { status: 'Succeeded', output: { templateId } };
      if (!waitsFor(stored, operation.id, MAKING)) return undefined;
      await patchProperties(trx, templateId, {
        provisioningState: error.code === 'Canceled' ? 'Canceled' : 'Failed',
        provisioningError: {
          provisioningErrorCode: error.code === 'InternalError' ? 'ServerError' : 'Other',
          message: publicMessage(error),
        },
      });
      return undefined;
    },
  };
}

/** The source is there, and what is published to; one fits into the other. */
async function checkPlaces(stored: StoredResource, sources: SourceEnvironment, local: boolean): Promise<void> {
  const template = templateOf(stored);
  const { source, distribute } = template.properties;
  const image = await sourceOf(template, sources);
  if (local) return;
  if (
    source.type === 'ManagedImage' &&
    !sameText(parseId(source.imageId).subscription, parseId(stored.id).subscription)
  )
    throw new KilnError(
      'ValidationFailed',
      `The managed image '${source.imageId}' is in another subscription than the image template.`,
      { target: 'properties.source.imageId' },
    );
  const definitions = await requireTargets(sources.database, distribute);
  // Of an image that stands in for another one nobody knows more than that it boots.
  if (!image.replaced) requireSameKind(definitions, image);
}

async function writeFailure(database: Kysely<Schema>, templateId: string, error: KilnError): Promise<void> {
  const stored = await getResource(database, templateId);
  await patchProperties(database, templateId, {
    provisioningState: error.code === 'Canceled' ? 'Canceled' : 'Failed',
    provisioningError: {
      provisioningErrorCode: provisioningErrorCode(error, stored && templateOf(stored).properties),
      message: publicMessage(error),
    },
  });
}

/** The ids that the identity has in the directory are shown once the template is provisioned (contract 1.5). */
async function writeIdentity(database: Kysely<Schema>, templateId: string, acting: Acting | undefined): Promise<void> {
  if (!acting) return;
  const { id, principalId, clientId } = acting;
  const identity = { type: 'UserAssigned', userAssignedIdentities: { [id]: { principalId, clientId } } };
  await database
    .updateTable('resource')
    .set({ identity: json<unknown>(identity) })
    .where('id', '=', idKey(templateId))
    .execute();
}

/** `autoRun`: a template that was made or changed is built at once. */
export async function runAutomatically(
  { engine, machines }: Pick<ProviderEnvironment, 'engine' | 'machines'>,
  trx: Transacting,
  templateId: string,
  caller: string | undefined,
): Promise<void> {
  const { properties } = templateOf(await requireResource(trx, templateId));
  if (properties.autoRun?.state !== 'Enabled' || (await activeRun(trx, templateId))) return;
  await startRun(engine, trx, templateId, {
    where: 'anywhere',
    machines,
    ...(caller !== undefined && { caller }),
  });
}
