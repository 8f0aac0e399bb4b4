/** The image version that a distributor asks of a gallery: what is in it, and whether the gallery would take it, which is known before anything is built. */
import { randomUUID } from 'node:crypto';
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { parseId, resourceId } from '../../arm/ids.ts';
import { findRegion } from '../../arm/locations.ts';
import { violationError } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { Schema } from '../../database/schema.ts';
import { galleryImageVersions } from '../compute/gallery-image-versions.ts';
import { requireResource } from '../life.ts';
import type { StoredResource } from '../store.ts';
import {
  type Distributor,
  lacksVersion,
  parseGalleryImageId,
  regionsOf,
  type SharedImageDistributor,
  SOURCE_WITHOUT_VERSION,
} from './distributors.ts';
import type { TemplateSource } from './source.ts';

/**
 * The image definitions that distributors publish into, by the distributors' indexes. Errors: those of requireResource.
 * @param except indexes of distributors that are not looked at
 */
export async function definitionsOf(
  database: Kysely<Schema>,
  distribute: readonly Distributor[],
  except: Pick<ReadonlyMap<number, unknown>, 'has'> = new Map(),
): Promise<Map<number, StoredResource>> {
  const found = new Map<number, StoredResource>();
  for (const [index, distributor] of distribute.entries())
    if (distributor.type === 'SharedImage' && !except.has(index)) {
      const { definitionId } = parseGalleryImageId(distributor.galleryImageId)!;
      found.set(index, await requireResource(database, definitionId));
    }
  return found;
}

/** @param regions their names, as {@link regionsOf} gives them */
export function versionProperties(
  distributor: SharedImageDistributor,
  regions: readonly string[],
  { templateId, runId }: { readonly templateId: string; readonly runId: string },
): { publishingProfile: JsonObject; storageProfile: JsonObject } {
  const { subscription, resourceGroup } = parseId(templateId);
  const storageAccountType = distributor.storageAccountType ?? 'Standard_LRS';
  return {
    publishingProfile: {
      targetRegions: regions.map(name => {
        const wanted = distributor.targetRegions?.find(region => findRegion(region.name)?.name === name);
        return {
          name,
          regionalReplicaCount: wanted?.replicaCount ?? 1,
          storageAccountType: wanted?.storageAccountType ?? storageAccountType,
        };
      }),
      storageAccountType,
      excludeFromLatest: distributor.excludeFromLatest ?? false,
      ...(distributor.replicationMode && { replicationMode: distributor.replicationMode }),
    },
    // As Azure writes it: the intermediate image of the run, which is gone when the version is there (contract 1.5).
    storageProfile: {
      source: {
        id: resourceId(subscription, resourceGroup!, 'Microsoft.Compute/images', `IntermediateSnapImg_${runId}_0`),
      },
    },
  };
}

type Definition = Pick<StoredResource, 'id' | 'location' | 'properties'>;

/**
 * What the gallery would refuse of the version, it is asked before anything is built: regions without the definition's own, too many replicas, a kind of storage
 * that a region has not, too many tags, specialized images. Errors: ValidationFailed; InvalidParameter and those of tags, in the gallery's own sentences; with the
 * distributor as target.
 */
export function requireVersionFits(
  distributor: SharedImageDistributor,
  index: number,
  definition: Definition,
  source: Pick<TemplateSource, 'type'>,
): void {
  if (lacksVersion(distributor, source))
    throw new KilnError('ValidationFailed', SOURCE_WITHOUT_VERSION, {
      target: `properties.distribute[${index}].versioning`,
    });
  requireTaken(distributor, index, definition, regionsOf(distributor, definition.location!));
}

/** What is refused when a template is made or changed: the same, but Azure takes regions there without the definition's own (recorded), and the run finds fault with them. */
export function requireVersionMayFit(distributor: SharedImageDistributor, index: number, definition: Definition): void {
  const { location } = definition;
  requireTaken(distributor, index, definition, [...new Set([...regionsOf(distributor, location!), location!])]);
}

function requireTaken(
  distributor: SharedImageDistributor,
  index: number,
  definition: Definition,
  regions: readonly string[],
): void {
  if (definition.properties.osState === 'Specialized')
    throw new KilnError(
      'ValidationFailed',
      `An image that is built is generalized, but the image definition ${definition.id} is for specialized ones.`,
      { target: `properties.distribute[${index}].galleryImageId` },
    );
  const location = definition.location!;
  const runId = randomUUID();
  const { violations } = galleryImageVersions.validate(
    {
      location,
      tags: { ...distributor.artifactTags, correlationId: runId },
      properties: versionProperties(distributor, regions, { templateId: definition.id, runId }),
    },
    {
      id: parseId(`${definition.id}/versions/0.0.1`),
      apiVersion: galleryImageVersions.apiVersions[0]!,
      now: new Date(),
      newGuid: randomUUID,
      siblings: [],
      local: false,
    },
  );
  if (violations.length === 0) return;
  throw violationError(
    galleryImageVersions.violationCode,
    violations.map(violation => ({ ...violation, path: placeOf(distributor, index, violation.path) })),
  );
}

/** Where the template says what the version was to have at `path`. */
function placeOf(distributor: SharedImageDistributor, index: number, path: string): string {
  const at = `properties.distribute[${index}]`;
  if (path.startsWith('tags')) return `${at}.artifactTags`;
  const region = /targetRegions(?:\[(\d+)\](?:\.(\w+))?)?/.exec(path);
  if (!region) return at;
  const named = (distributor.targetRegions ?? []).length > 0;
  if (region[1] === undefined) return `${at}.${named ? 'targetRegions' : 'replicationRegions'}`;
  if (!named)
    return `${at}.${region[2] === 'storageAccountType' ? 'storageAccountType' : `replicationRegions[${region[1]}]`}`;
  const field = region[2] === 'regionalReplicaCount' ? 'replicaCount' : region[2];
  return `${at}.targetRegions[${region[1]}]${field === undefined ? '' : `.${field}`}`;
}
