/** In which regions a version is, how often, and on what storage: defaults and rules (contract 2.3). */
import { Type } from '@sinclair/typebox';
import { findRegion } from '../../arm/locations.ts';
import type { Violation } from '../../arm/resource-type.ts';
import { int32, isObject, type JsonObject, oneOf } from '../../arm/shape.ts';
import { hasZones } from './availability-zones.ts';

const storage = oneOf(['Standard_LRS', 'Standard_ZRS', 'Premium_LRS']);
/** Azure's limits. */
const replicas = () => Type.Optional(int32({ minimum: 1, maximum: 100 }));
const AT = 'properties.publishingProfile.targetRegions';

export const PublishingProfileSchema = Type.Object({
  targetRegions: Type.Optional(
    Type.Array(
      Type.Object({
        name: Type.String(),
        regionalReplicaCount: replicas(),
        storageAccountType: Type.Optional(storage),
        excludeFromLatest: Type.Optional(Type.Boolean()),
        encryption: Type.Optional(Type.Unknown()),
      }),
    ),
  ),
  targetExtendedLocations: Type.Optional(Type.Array(Type.Unknown())),
  replicaCount: replicas(),
  excludeFromLatest: Type.Optional(Type.Boolean()),
  publishedDate: Type.Optional(Type.Unknown({ readOnly: true })),
  endOfLifeDate: Type.Optional(Type.String()),
  storageAccountType: Type.Optional(storage),
  replicationMode: Type.Optional(oneOf(['Full', 'Shallow'])),
});

/** With display names, counts and storage types filled in. Without a list: where the version itself is. `before`: the profile that a PUT changes. */
export function completedProfile(given: JsonObject | undefined, location: string, before?: JsonObject): JsonObject {
  const profile = given ?? {};
  const { targetRegions = before?.targetRegions ?? [{ name: location }] } = profile;
  const { publishedDate: _, ...kept } = before ?? {};
  const replicaCount = profile.replicaCount ?? kept.replicaCount ?? 1;
  const storageAccountType = profile.storageAccountType ?? kept.storageAccountType ?? 'Standard_LRS';
  return {
    ...(given === undefined && kept),
    ...profile,
    targetRegions: (targetRegions as unknown[]).filter(isObject).map(target => ({
      ...target,
      name: findRegion(String(target.name))?.displayName ?? String(target.name),
      regionalReplicaCount: target.regionalReplicaCount ?? replicaCount,
      storageAccountType: target.storageAccountType ?? storageAccountType,
    })),
    replicaCount,
    ...(kept.replicationMode !== undefined && { replicationMode: profile.replicationMode ?? kept.replicationMode }),
    excludeFromLatest: profile.excludeFromLatest ?? (given === undefined ? kept.excludeFromLatest : undefined) ?? false,
    storageAccountType,
  };
}

/** Of a completed profile. */
export function regionViolations(profile: JsonObject, location: string): Violation[] {
  const targets = (profile.targetRegions as { name: string; storageAccountType: string }[]).map(target => ({
    ...target,
    region: findRegion(target.name),
  }));
  const names = targets.map(({ name }) => name);
  const unknown = targets.filter(({ region }) => !region);
  if (unknown.length > 0)
    return [
      {
        path: AT,
        message: `The value of parameter galleryImageVersion.${AT} is invalid.`,
        hint: `No region has the name ${unknown.map(({ name }) => `'${name}'`).join(', ')}.`,
      },
    ];
  const violations: Violation[] = [];
  if (new Set(names).size < names.length)
    violations.push({ path: AT, message: 'Duplicate regions are not allowed in target publishing regions.' });
  if (!targets.some(({ region }) => region!.name === location))
    violations.push({
      path: AT,
      message: `Gallery image version publishing profile regions ${names.join(', ')} must contain the location of image version ${findRegion(location)?.displayName ?? location}`,
    });
  for (const [index, { region, storageAccountType }] of targets.entries())
    if (storageAccountType === 'Standard_ZRS' && !hasZones(region!.name))
      violations.push({
        path: `${AT}[${index}].storageAccountType`,
        message: 'ZRS storage account type is not supported in this region.',
        hint: `${region!.displayName} has no availability zones.`,
      });
  return violations;
}
