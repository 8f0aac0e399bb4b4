/** What galleries do besides being stored: how they are shared, and how much of that an answer shows. */
import { Type } from '@sinclair/typebox';
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';
import { formatPath } from '../../arm/json-path.ts';
import { findRegion } from '../../arm/locations.ts';
import type { Resource } from '../../arm/resource-type.ts';
import { isObject, type JsonObject, oneOf, shape } from '../../arm/shape.ts';
import { beginChange, notFoundError } from '../life.ts';
import type { Answer, Call, ResourceCall, ResourceProvider } from '../provider.ts';
import { listResources, patchProperties } from '../store.ts';
import { capsLife } from './caps-life.ts';
import { galleries } from './galleries.ts';
import { targetRegions } from './latest-version.ts';
import { changedSharing, isShared, OPERATION_TYPES, type SharingUpdate, sharingOf } from './sharing-profile.ts';

const UpdateSchema = Type.Object({
  operationType: oneOf(OPERATION_TYPES),
  groups: Type.Optional(
    Type.Array(
      Type.Object({
        type: oneOf(['Subscriptions', 'AADTenants']),
        ids: Type.Array(
          Type.String({
            pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$',
            reason: 'It must be the GUID of a subscription or tenant.',
          }),
        ),
      }),
    ),
  ),
});

export const galleriesProvider: ResourceProvider = Object.freeze({
  definition: galleries,
  ...capsLife(galleries),
  actions: { share: { permission: 'share/action', run: share } },
  show,
});

/** POST …/share: at once, so there is nothing to poll. The answer is the body. */
async function share(call: ResourceCall, body: unknown): Promise<Answer> {
  const update = sharingUpdate(body, call.apiVersion);
  await call.environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    if (!existing) throw await notFoundError(trx, call.id);
    const sharingProfile = changedSharing(sharingOf(existing), update);
    await patchProperties(trx, call.id, { sharingProfile });
  });
  return { status: 200, body: update };
}

function sharingUpdate(body: unknown, apiVersion: string): SharingUpdate {
  const given = isObject(body) ? body : {};
  const { value, findings } = shape(UpdateSchema, given, { apiVersion, caseSensitive: false });
  const wrong = findings.find(({ kind }) => kind !== 'unknown');
  if (wrong) {
    const path = formatPath(wrong.path);
    const missing = wrong.kind === 'missing';
    throw new KilnError(
      'InvalidParameter',
      missing
        ? `Required parameter 'sharingUpdate.${path}' is missing (null).`
        : `The value of parameter sharingUpdate.${path} is invalid.`,
      { target: path, ...(wrong.reason !== undefined && { hint: wrong.reason }) },
    );
  }
  const update: SharingUpdate = value;
  const named = (update.groups ?? []).some(({ ids }) => ids.length > 0);
  if ((update.operationType === 'Add' || update.operationType === 'Remove') && !named)
    throw new KilnError('InvalidParameter', "Required parameter 'sharingUpdate.groups' is missing (null).", {
      target: 'groups',
    });
  return update;
}

/** `$select=Permissions` and `$expand=SharingProfile/Groups` show with whom; without them an answer says only whether. */
async function show(resource: Resource, call: Call): Promise<JsonObject> {
  const { sharingProfile: _, ...properties } = resource.properties;
  const profile = isSince(call.apiVersion, '2020-09-30') ? sharingOf(resource) : undefined;
  const wanted = [call.query.get('$select'), call.query.get('$expand')].map(text => text?.toLowerCase());
  const whole = wanted.some(text => text === 'permissions' || text === 'sharingprofile/groups');
  const { groups, ...shown } = profile ?? { permissions: 'Private' };
  const known = properties as JsonObject;
  return {
    location: resource.location,
    tags: resource.tags ?? {},
    properties: {
      ...known,
      ...(profile && { sharingProfile: { ...shown, ...(whole && groups && { groups }) } }),
      ...(profile &&
        isShared(profile) &&
        isSince(call.apiVersion, '2022-01-03') && { sharingStatus: await sharingStatus(resource, call) }),
    },
  };
}

/** Shared is shared everywhere at once: where the gallery is, and where its versions are. */
async function sharingStatus(gallery: Resource, { environment }: Call): Promise<JsonObject> {
  const regions = new Set([gallery.location!]);
  for (const definition of await listResources(environment.database, { parent: gallery.id }))
    for (const version of await listResources(environment.database, { parent: definition.id }))
      for (const { region } of targetRegions(version)) regions.add(region);
  const summary = [...regions].map(region => ({
    region: findRegion(region)?.displayName ?? region,
    state: 'Succeeded',
    details: '',
  }));
  return { aggregatedState: 'Succeeded', summary };
}
