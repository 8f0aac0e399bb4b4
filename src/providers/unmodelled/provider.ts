/**
 * Resources of types that Kiln does not know, in namespaces that it does: kept, and shown as they were sent, so that whole solutions deploy. Nothing else
 * happens, and every answer says so. `kiln serve --strict` refuses them. Groups, tags, locks, roles and lists treat them as any resource.
 */
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey, type ResourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import { recordDone } from '../../engine/done.ts';
import { requireConditions } from '../conditions.ts';
import { merged } from '../default-life.ts';
import { requireNoBuildMachine } from '../image-builder/build-resources.ts';
import { beginChange, notFoundError } from '../life.ts';
import type { Answer, Call, ListCall, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, listResources, putResource, removeResource, type StoredResource } from '../store.ts';
import { readUnmodelled, type UnmodelledBody } from './body.ts';

/** Of one type in one group, as in Azure; and of all types in a subscription. */
const MOST_OF_TYPE = 800;
const MOST = 20_000;
const MOST_NAMED = 20;
const VERSION = /^\d{4}-\d\d-\d\d(-(preview|alpha|beta|rc|privatepreview))?$/i;
/** As Resource Manager has it for all: nothing at the end that would get lost. */
const NAME = /^[^<>%&\\?/#\u0000-\u001f\u007f]{0,259}[^<>%&\\?/#.\s\u0000-\u001f\u007f]$/;

export const UNMODELLED_HEADER = 'x-kiln-warning';

/** @param apiVersion as the request has it: any that is well-formed is the type's. */
export function unmodelledProvider(type: string, apiVersion: string | undefined): ResourceProvider {
  return Object.freeze({
    definition: {
      type,
      apiVersions: apiVersion !== undefined && VERSION.test(apiVersion) ? [apiVersion] : [EXAMPLE],
      kind: 'tracked',
      violationCode: 'InvalidRequestContent',
      checkName: () => undefined,
      validate: () => {
        throw new TypeError('nobody knows what is valid');
      },
    },
    headers: { [UNMODELLED_HEADER]: `${type} is not modelled by Kiln: it is kept as it was sent, and does nothing.` },
    read,
    async list(call: ListCall) {
      requireLax(call, type);
      return await listResources(call.environment.database, { type, ...call.scope, ...call.window });
    },
    put,
    patch,
    remove,
    show,
  } satisfies ResourceProvider);
}

const EXAMPLE = '2024-01-01';

async function read(call: ResourceCall): Promise<StoredResource | undefined> {
  const found = await getResource(call.environment.database, call.id);
  // What was kept before is still there to be seen and deleted.
  if (!found) requireLax(call, call.id.type);
  return found;
}

async function put(call: ResourceCall, body: JsonObject): Promise<Answer> {
  requireLax(call, call.id.type);
  const { type, name } = call.id;
  const broken = call.id.names.find(one => !NAME.test(one));
  if (broken !== undefined)
    throw new KilnError(
      'InvalidResourceName',
      `Resource name ${broken} is invalid. It can have 260 characters, none of <>%&\\?/#, and cannot end with a period or a space.`,
    );
  const given = readUnmodelled(body, type, name);
  return await change(call, async (trx, existing) => {
    if (!existing) await requireRoom(trx, call.id);
    requireSameLocation(existing, given, call.id);
    return given;
  });
}

/** Tags that are given replace all, properties are merged (RFC 7396), the rest replaces what was there. */
async function patch(call: ResourceCall, body: JsonObject): Promise<Answer> {
  requireLax(call, call.id.type);
  return await change(call, async (trx, existing) => {
    if (!existing) throw await notFoundError(trx, call.id);
    const { location, tags, identity, sku, kind, properties, unmodelled } = existing;
    const before = { ...unmodelled, location, tags, identity, sku, kind };
    const { tags: replaced, ...changed } = body;
    const whole = merged({ ...before, properties }, changed) as JsonObject;
    const given = readUnmodelled({ ...whole, ...(replaced != null && { tags: replaced }) }, call.id.type, call.id.name);
    requireSameLocation(existing, given, call.id);
    return given;
  });
}

async function change(
  call: ResourceCall,
  next: (trx: Transacting, existing: StoredResource | undefined) => Promise<UnmodelledBody>,
): Promise<Answer> {
  const { environment, apiVersion, correlationId } = call;
  const answer = await environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    await requireNoBuildMachine(trx, call.id);
    requireConditions(call.conditions, call.id, existing);
    const { resource: content, dropped } = await next(trx, existing);
    const id = existing?.id ?? formatId(call.id);
    const resource = await putResource(trx, { ...content, id, apiVersion });
    const operation = await recordDone(trx, {
      kind: `${resource.type}/write`,
      resourceId: idKey(call.id),
      output: { warnings: warningsOf(resource, dropped) },
      caller: call.caller.objectId,
    });
    const location = resource.location ?? 'global';
    return { status: existing ? 200 : 201, resource, operation: { id: operation, location } } as const;
  });
  const { id, type } = answer.resource;
  environment.log('warning', 'A resource of a type that is not modelled was kept as it was sent.', {
    id,
    type,
    apiVersion,
    correlationId,
  });
  return answer;
}

async function remove(call: ResourceCall): Promise<Answer> {
  return await call.environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    if (!existing) return { status: 204 };
    await requireNoBuildMachine(trx, call.id);
    requireConditions(call.conditions, call.id, existing);
    await removeResource(trx, existing.id);
    return { status: 200 };
  });
}

function show(given: Parameters<NonNullable<ResourceProvider['show']>>[0], _call: Call): JsonObject {
  const { location, tags, identity, sku, kind, properties, unmodelled } = given as StoredResource;
  return {
    ...unmodelled,
    ...(location !== undefined && { location }),
    ...(tags !== undefined && { tags }),
    ...(identity !== undefined && { identity }),
    ...(sku !== undefined && { sku }),
    ...(kind !== undefined && { kind }),
    properties,
  };
}

interface Warning {
  readonly code: 'UnmodelledResource' | 'SecretsNotKept';
  readonly message: string;
  readonly target: string;
}

function warningsOf({ id, type }: StoredResource, dropped: readonly string[]): Warning[] {
  const left = dropped.length - MOST_NAMED;
  return [
    {
      code: 'UnmodelledResource',
      message: `Kiln does not know the resource type '${type}': the resource is kept and shown as it was sent, and nothing else was done. \`kiln serve --strict\` refuses such resources.`,
      target: id,
    },
    ...dropped.slice(0, MOST_NAMED).map(
      (path): Warning => ({
        code: 'SecretsNotKept',
        message: `The value of '${path.slice(0, 200)}' may be a secret and was not kept.`,
        target: path.slice(0, 200),
      }),
    ),
    ...(left > 0
      ? [{ code: 'SecretsNotKept' as const, message: `${left} more values were not kept.`, target: 'properties' }]
      : []),
  ];
}

/** Errors: InvalidResourceType, under --strict. */
function requireLax({ environment }: Call, type: string): void {
  if (environment.options.strict) throw strictError(type);
}

export function strictError(type: string): KilnError {
  const [namespace, ...types] = type.split('/');
  return new KilnError(
    'InvalidResourceType',
    `The resource type '${types.join('/')}' could not be found in the namespace '${namespace}': Kiln does not model it.`,
    { hint: 'The server runs with --strict; without it, resources of such types are kept and shown as they are sent.' },
  );
}

/** What an action of a type that nobody knows would do, nobody knows. */
export function unmodelledAction(type: string, action: string): KilnError {
  return new KilnError('MethodNotAllowed', `The action '${action}' is not supported for '${type}'.`, {
    hint: `Kiln does not model ${type}: it keeps resources of this type, and can do nothing with them.`,
  });
}

function requireSameLocation(existing: StoredResource | undefined, { resource }: UnmodelledBody, id: ResourceId): void {
  const { location } = resource;
  if (existing?.location === undefined || location === undefined || existing.location === location) return;
  throw new KilnError(
    'InvalidResourceLocation',
    `The resource '${existing.name}' already exists in location '${existing.location}' in resource group '${id.resourceGroup}'. A resource with the same name cannot be created in location '${location}'. Please select a new resource name.`,
    { target: existing.id },
  );
}

async function requireRoom(trx: Transacting, { type, subscription, resourceGroup }: ResourceId): Promise<void> {
  const unmodelled = trx
    .selectFrom('resource')
    .select(eb => eb.fn.countAll<string>().as('count'))
    .where('unmodelled', 'is not', null)
    .where('subscription', '=', subscription.toLowerCase());
  const all = await unmodelled.executeTakeFirstOrThrow();
  const same = await unmodelled
    .where(eb => eb.fn<string>('lower', ['type']), '=', type.toLowerCase())
    .where('resource_group', '=', resourceGroup!.toLowerCase())
    .executeTakeFirstOrThrow();
  if (Number(same.count) < MOST_OF_TYPE && Number(all.count) < MOST) return;
  throw new KilnError(
    'ResourceQuotaExceeded',
    Number(same.count) >= MOST_OF_TYPE
      ? `The resource group '${resourceGroup}' has ${same.count} resources of type '${type}'; it can have ${MOST_OF_TYPE}.`
      : `The subscription has ${all.count} resources of types that Kiln does not know; it can have ${MOST}.`,
  );
}
