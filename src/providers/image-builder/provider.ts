/** Image templates as the front door serves them (contract 1.4, 1.5). What takes time is an operation of its own: create.ts, update.ts, delete.ts, run.ts. */
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey } from '../../arm/ids.ts';
import { requireRegion } from '../../arm/locations.ts';
import type { Resource } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { requireResource } from '../life.ts';
import type { Answer, Call, ListCall, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, listResources, type StoredResource } from '../store.ts';
import { putTemplate } from './create.ts';
import { deleteTemplate } from './delete.ts';
import { imageTemplates } from './image-templates.ts';
import { type LastRun, lastRun, lastRuns } from './last-run.ts';
import { buildLinks, handedLinks, identityIds, requireLinks, requireQualifiedIds, stagingLinks } from './links.ts';
import { ACTIVE, cancelRun, startRun } from './run.ts';
import { PropertiesSchema, type TemplateIdentity } from './schema.ts';
import { hasSecretUrls, openTemplate, urlsWithoutSecrets } from './sealed-urls.ts';
import { shownTemplate } from './shown-template.ts';
import { notAllowed } from './states.ts';
import { patchTemplate } from './update.ts';
import { validateTemplate } from './validate.ts';

export const imageTemplatesProvider: ResourceProvider = Object.freeze({
  definition: imageTemplates,
  groupSegment: 'resourcegroups',
  untagged: true,
  read,
  list,
  put,
  patch,
  remove: deleteTemplate,
  actions: Object.freeze({
    run: { permission: 'run/action', run },
    cancel: { permission: 'cancel/action', run: cancel },
  }),
  show: async (resource: Resource | WithRun, call: Call) =>
    shownTemplate(await seenBy(call, resource), 'lastRun' in resource ? resource.lastRun : undefined, call),
} satisfies ResourceProvider);

/** A template with its newest run: read together, shown together. */
interface WithRun extends StoredResource {
  readonly lastRun?: LastRun;
}

const withRun = (template: StoredResource, run: LastRun | undefined): WithRun =>
  run ? { ...template, lastRun: run } : template;

/** Secrets in URLs are shown to who may replace them, so that what was read can be written again; to nobody else. */
async function seenBy({ environment, may }: Call, resource: Resource): Promise<Resource> {
  const { id, properties } = resource;
  if (!hasSecretUrls(properties)) return resource;
  if (await may(`${imageTemplates.type}/write`, id)) return await openTemplate(resource, environment.home);
  return { ...resource, properties: urlsWithoutSecrets(properties) };
}

async function read({ environment: { database }, id }: ResourceCall): Promise<WithRun | undefined> {
  const template = await getResource(database, id);
  return template && withRun(template, await lastRun(database, template));
}

async function list({ environment: { database }, scope, window }: ListCall): Promise<readonly WithRun[]> {
  const templates = await listResources(database, {
    type: imageTemplates.type,
    subscription: scope.subscription,
    ...(scope.resourceGroup !== undefined && { resourceGroup: scope.resourceGroup }),
    ...window,
  });
  const runs = await lastRuns(database, templates);
  return templates.map(template => withRun(template, runs.get(idKey(template.id))));
}

/** Errors: those of patchTemplate; LinkedInvalidPropertyId. */
async function patch(call: ResourceCall, body: JsonObject): Promise<Answer> {
  requireQualifiedIds(body);
  return await patchTemplate(call, body);
}

/** Errors: those of putTemplate; LinkedInvalidPropertyId, LinkedAuthorizationFailed. */
async function put(call: ResourceCall, given: JsonObject): Promise<Answer> {
  const { environment, apiVersion } = call;
  const id = formatId(call.id);
  const body = lifted(given);
  // Resource Manager's own words come before the provider's.
  const location = Object.entries(body).find(([name]) => name.toLowerCase() === 'location')?.[1];
  if (location === undefined || location === null || typeof location === 'string')
    requireRegion(location ?? undefined, imageTemplates.type);
  requireQualifiedIds(body);
  await checkLinks(call, id, body);
  const { operation, resource, created } = await putTemplate(environment.engine, environment.database, {
    id,
    body,
    apiVersion,
    local: false,
    revise: environment.options.reviseTemplates,
    where: 'anywhere',
    home: environment.home,
    caller: call.caller.objectId,
    conditions: call.conditions,
  });
  const shown = created ? resource : withRun(resource, await lastRun(environment.database, resource));
  return { status: created ? 201 : 200, resource: shown, operation: { id: operation, location: resource.location! } };
}

/** What the caller hands to the template has to be the caller's to give. A body that is malformed is refused a moment later, by the definition. */
async function checkLinks(call: ResourceCall, id: string, body: JsonObject): Promise<void> {
  const { violations, template } = validateTemplate(body, { apiVersion: call.apiVersion });
  if (violations.length > 0) return;
  const { identity, properties } = template;
  await requireLinks(call, id, handedLinks(identity, properties.vmProfile));
  // Nobody acts for a template without identity but who makes it.
  if (identityIds(identity).length === 0)
    await requireLinks(call, id, [
      ...stagingLinks(properties.stagingResourceGroup),
      ...buildLinks({ ...properties, customize: [] } as never),
    ]);
}

/** az 2.91 sends the members of `properties` beside `location` (az-wire 8.1). */
function lifted(body: JsonObject): JsonObject {
  const known = Object.keys(PropertiesSchema.properties);
  if ('properties' in body || !known.some(name => name in body)) return body;
  const inner = Object.entries(body).filter(([name]) => known.includes(name));
  const outer = Object.entries(body).filter(([name]) => !known.includes(name));
  return { ...Object.fromEntries(outer), properties: Object.fromEntries(inner) };
}

/** Errors: OperationNotAllowed while it is not provisioned, or is being built. */
async function run(call: ResourceCall): Promise<Answer> {
  const { engine, database, machines } = call.environment;
  const template = await requireResource(database, formatId(call.id));
  const identity = template.identity as TemplateIdentity | undefined;
  // As when it was made: nobody else acts for it.
  if (identityIds(identity).length === 0)
    await requireLinks(call, template.id, buildLinks(template.properties as never));
  const id = await startRun(engine, database, template.id, {
    where: 'anywhere',
    machines,
    caller: call.caller.objectId,
  }).catch(async error => {
    if (!(error instanceof KilnError) || error.code !== 'RunInProgress') throw error;
    const active = await lastRun(database, template);
    throw notAllowed('run/action', template, active?.state, error.message);
  });
  return { status: 202, operation: { id, location: template.location! } };
}

/** 204 at once; the state says how far it is. Errors: OperationNotAllowed, when nothing is built or a cancellation is under way. */
async function cancel(call: ResourceCall): Promise<Answer> {
  const { engine, database } = call.environment;
  const template = await requireResource(database, formatId(call.id));
  const newest = await lastRun(database, template);
  if (!newest || !ACTIVE.includes(newest.state)) throw notAllowed('cancel/action', template, newest?.state);
  // Asked for again: whoever asked first may have died between the two rows.
  const open = await cancelRun(engine, database, newest.id);
  if (newest.state === 'Canceling') throw notAllowed('cancel/action', template, newest.state);
  if (!open) throw notAllowed('cancel/action', template, (await lastRun(database, template))?.state);
  return { status: 204 };
}
