/**
 * What a template links to, and who has to be allowed what there: its caller when it is made or changed, its identity when it is provisioned and whenever it
 * is built (contract 2.5, 3.2; the actions are those of the custom roles that the quickstarts make).
 */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { formatId, parentId, parseId, resourceGroupId, sameId, tryParseId } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Schema } from '../../database/schema.ts';
import { identityMay } from '../authorization/identity-may.ts';
import { requireUnlocked } from '../authorization/locked-scopes.ts';
import { requireLinkedAccess } from '../linked-access.ts';
import type { Call } from '../provider.ts';
import { getResource, type StoredResource } from '../store.ts';
import { parseGalleryImageId } from './distributors.ts';
import { requireVersionMayFit } from './gallery-version.ts';
import { requireImageFits } from './managed-image.ts';
import type { ImageTemplate, ImageTemplateProperties } from './normalise.ts';
import { parseGroup } from './rules.ts';
import type { TemplateIdentity } from './schema.ts';
import { TEMPLATE_TYPE } from './validate.ts';

export interface Link {
  /** Where the template names it: `properties.distribute[0]`. */
  readonly path: string;
  /** What somebody has to be allowed … */
  readonly action: string;
  /** … on what. */
  readonly scope: string;
  /** What a refusal names. */
  readonly shown: string;
}

type Linking = Pick<ImageTemplateProperties, 'source' | 'distribute' | 'vmProfile'>;

const ASSIGN = 'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action';
const JOIN = 'Microsoft.Network/virtualNetworks/subnets/join/action';

/** The ids of an identity block, as they were written. */
export const identityIds = (identity: TemplateIdentity | undefined): string[] =>
  Object.keys(identity?.userAssignedIdentities ?? {});

/** What a caller hands to the template: identities, and places in networks. */
export function handedLinks(identity: TemplateIdentity | undefined, profile: Linking['vmProfile']): Link[] {
  return [
    ...identityIds(identity).map(id => link('identity.userAssignedIdentities', ASSIGN, id)),
    ...(profile?.userAssignedIdentities ?? []).map((id, index) =>
      link(`properties.vmProfile.userAssignedIdentities[${index}]`, ASSIGN, id),
    ),
    ...networkLinks(profile),
  ];
}

/** The staging group that a template names is used, and tagged; where it is not there, it is made. */
export function stagingLinks(group: string | undefined): Link[] {
  const named = parseGroup(group ?? '');
  if (!named) return [];
  const action = 'Microsoft.Resources/subscriptions/resourceGroups/write';
  return [link('properties.stagingResourceGroup', action, resourceGroupId(named.subscription, named.name))];
}

/**
 * Resource Manager reads what a body links to before the provider sees it. Untrusted body of a PUT or PATCH.
 * Errors: LinkedInvalidPropertyId, for the first id that is not fully qualified; what is wrong with the others, the definition says.
 */
export function requireQualifiedIds(body: JsonObject): void {
  const part = (value: unknown, name: string): unknown => (isObject(value) ? value[name] : undefined);
  const profile = part(body.properties, 'vmProfile');
  const network = part(profile, 'vnetConfig');
  const identities = part(profile, 'userAssignedIdentities');
  const own = part(body.identity, 'userAssignedIdentities');
  const linked: [path: string, id: unknown][] = [
    ...Object.keys(isObject(own) ? own : {}).map((id): [string, unknown] => ['identity.userAssignedIdentities', id]),
    ...(Array.isArray(identities) ? identities : []).map((id, index): [string, unknown] => [
      `properties.vmProfile.userAssignedIdentities[${index}]`,
      id,
    ]),
    ...['subnetId', 'containerInstanceSubnetId'].map((name): [string, unknown] => [
      `properties.vmProfile.vnetConfig.${name}`,
      part(network, name),
    ]),
  ];
  for (const [path, id] of linked)
    if (typeof id === 'string' && id !== '' && !/^\/(subscriptions|providers)\/[^/]/i.test(id)) parseId(id, path);
}

/** What is read, written and joined by a build. The network comes first: so does the real service's complaint. */
export function buildLinks(properties: Linking, own: readonly string[] = []): Link[] {
  const { source, distribute, vmProfile } = properties;
  return [
    ...networkLinks(vmProfile).map(one => ({ ...one, shown: networkOf(one.scope) })),
    ...(vmProfile?.userAssignedIdentities ?? [])
      .map((id, index) => link(`properties.vmProfile.userAssignedIdentities[${index}]`, ASSIGN, id))
      .filter(({ scope }) => !own.some(id => sameId(id, scope))),
    ...sourceLinks(source),
    ...distribute.flatMap(distributeLinks),
  ];
}

function networkLinks(profile: Linking['vmProfile']): Link[] {
  const { subnetId, containerInstanceSubnetId } = profile?.vnetConfig ?? {};
  return Object.entries({ subnetId, containerInstanceSubnetId }).flatMap(([field, id]) =>
    id ? [link(`properties.vmProfile.vnetConfig.${field}`, JOIN, id)] : [],
  );
}

/** The real service complains of the network, not of its subnet (recorded). */
function networkOf(subnet: string): string {
  return formatId(parentId(parseId(subnet))!);
}

function sourceLinks(source: Linking['source']): Link[] {
  if (source.type === 'ManagedImage')
    return [link('properties.source.imageId', 'Microsoft.Compute/images/read', source.imageId)];
  if (source.type !== 'SharedImageVersion') return [];
  const id = tryParseId(source.imageVersionId);
  // A gallery that is shared directly is outside of resource groups, and of roles.
  if (id?.resourceGroup === undefined) return [];
  return [
    link('properties.source.imageVersionId', 'Microsoft.Compute/galleries/images/versions/read', source.imageVersionId),
  ];
}

/** Of one distributor. */
export function distributeLinks(distributor: Linking['distribute'][number], index: number): Link[] {
  const path = `properties.distribute[${index}]`;
  if (distributor.type === 'ManagedImage')
    return [link(`${path}.imageId`, 'Microsoft.Compute/images/write', distributor.imageId)];
  if (distributor.type !== 'SharedImage') return [];
  const { definitionId } = parseGalleryImageId(distributor.galleryImageId)!;
  const gallery = formatId(parentId(parseId(definitionId))!);
  const at = `${path}.galleryImageId`;
  return [
    link(at, 'Microsoft.Compute/galleries/read', gallery),
    link(at, 'Microsoft.Compute/galleries/images/read', definitionId),
    link(at, 'Microsoft.Compute/galleries/images/versions/write', definitionId),
  ];
}

const link = (path: string, action: string, scope: string): Link => ({ path, action, scope, shown: scope });

/** Errors: LinkedAuthorizationFailed, for the first link that the caller may not use, or that leads to a subscription of nobody here. */
export async function requireLinks(call: Call, templateId: string, links: readonly Link[]): Promise<void> {
  await requireLinkedAccess(call, { action: `${TEMPLATE_TYPE}/write`, scope: templateId }, links);
}

/** A template's identity as it is now. */
export interface Acting {
  readonly principalId: string;
  readonly clientId: string;
  /** As the template names it. */
  readonly id: string;
}

/**
 * Who a template acts as; undefined where it has no identity. Errors: Unauthorized, when the identity is gone or was made anew (its principal is another
 * one then, to which nobody gave rights).
 */
export async function actingIdentity(
  database: Kysely<Schema>,
  identity: TemplateIdentity | undefined,
): Promise<Acting | undefined> {
  const [id] = identityIds(identity);
  if (id === undefined) return undefined;
  const found = await getResource(database, id);
  const { principalId, clientId } = found?.properties ?? {};
  const known = identity?.userAssignedIdentities?.[id] as { principalId?: unknown } | undefined;
  if (typeof principalId === 'string' && typeof clientId === 'string')
    if (known?.principalId === undefined || known.principalId === principalId) return { principalId, clientId, id };
  throw new KilnError(
    'Unauthorized',
    'The assigned managed identity cannot be used. Please remove the existing one and re-assign a new identity. For more troubleshooting steps go to https://aka.ms/azvmimagebuilderts.',
    {
      target: 'identity.userAssignedIdentities',
      hint: found
        ? `${id} was deleted and made again since the template was made.`
        : `The identity ${id} does not exist.`,
    },
  );
}

/** Errors: Unauthorized, in the sentence of the service, for the first link that the identity may not use. */
export async function requireRights(
  database: Kysely<Schema>,
  { principalId, id }: Acting,
  links: readonly Link[],
): Promise<void> {
  for (const { action, scope, shown, path } of links) {
    if (await identityMay(database, principalId, action, scope)) continue;
    throw new KilnError(
      'Unauthorized',
      `Not authorized to access the resource: ${shown}. Please check the user assigned identity has the correct permissions. For more details, go to https://aka.ms/azvmimagebuilderts.`,
      { target: path, hint: `The identity ${id} (principal ${principalId}) may not ${action} on ${scope}.` },
    );
  }
}

/** Rights that were taken away since the template was made are missed at the next build. Errors: Unauthorized. */
export async function requireBuildRights(
  database: Kysely<Schema>,
  { identity, properties }: Pick<ImageTemplate, 'identity' | 'properties'>,
): Promise<void> {
  const acting = await actingIdentity(database, identity);
  const links = buildLinks(properties, acting && [acting.id]);
  if (acting) return await requireRights(database, acting, links);
  // Of an old api-version, which knew no identities: who made it was asked.
  if (identity === undefined || links.length === 0) return;
  throw new KilnError(
    'Unauthorized',
    `Not authorized to access the resource: ${links[0]!.shown}. Please check the user assigned identity has the correct permissions. For more details, go to https://aka.ms/azvmimagebuilderts.`,
    {
      target: links[0]!.path,
      hint: 'The image template has no identity: assign it one (az image builder identity assign).',
    },
  );
}

/** Nobody has locked what a template publishes to. Errors: ScopeLocked, with the distributor as target. */
export async function requireUnlockedTargets(
  database: Kysely<Schema>,
  distribute: Linking['distribute'],
): Promise<void> {
  for (const [index, distributor] of distribute.entries()) {
    if (distributor.type === 'VHD') continue;
    const [field, id] =
      distributor.type === 'ManagedImage'
        ? ['imageId', distributor.imageId]
        : ['galleryImageId', parseGalleryImageId(distributor.galleryImageId)!.definitionId];
    await requireUnlocked(database, id, 'write').catch(error => {
      if (!(error instanceof KilnError) || error.code !== 'ScopeLocked') throw error;
      const { message, hint } = error;
      const target = `properties.distribute[${index}].${field}`;
      throw new KilnError('ScopeLocked', message, { target, ...(hint !== undefined && { hint }) });
    });
  }
}

/**
 * Everything that a template publishes to is there, may be written, and would take what is published. Errors: ResourceGroupNotFound, ResourceNotFound,
 * ScopeLocked, those of requireImageFits and requireVersionMayFit, with the distributor as target.
 */
export async function requireTargets(
  database: Kysely<Schema>,
  distribute: Linking['distribute'],
): Promise<ReadonlyMap<number, StoredResource>> {
  await requireUnlockedTargets(database, distribute);
  const definitions = new Map<number, StoredResource>();
  for (const [index, distributor] of distribute.entries()) {
    const target = `properties.distribute[${index}]`;
    if (distributor.type === 'ManagedImage') {
      const { subscription, resourceGroup } = parseId(distributor.imageId);
      if (!(await getResource(database, resourceGroupId(subscription, resourceGroup!))))
        throw new KilnError('ResourceGroupNotFound', `Resource group '${resourceGroup}' could not be found.`, {
          target: `${target}.imageId`,
        });
      requireImageFits(distributor, index, await getResource(database, distributor.imageId));
    }
    if (distributor.type !== 'SharedImage') continue;
    const { definitionId } = parseGalleryImageId(distributor.galleryImageId)!;
    const id = parseId(definitionId);
    for (const part of [parentId(id)!, id]) {
      const found = await getResource(database, part);
      if (!found)
        throw new KilnError(
          'ResourceNotFound',
          `The Resource '${part.type}/${part.names.join('/')}' under resource group '${part.resourceGroup}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix`,
          { target: `${target}.galleryImageId` },
        );
      if (part !== id) continue;
      requireVersionMayFit(distributor, index, found);
      definitions.set(index, found);
    }
  }
  return definitions;
}
