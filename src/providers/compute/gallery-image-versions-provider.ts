/** What image versions do besides being stored, and how they are shown. */
import { isSince } from '../../arm/api-versions.ts';
import { sameId } from '../../arm/ids.ts';
import type { Resource } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { filesOf } from '../../images/replica.ts';
import type { Call, ResourceProvider } from '../provider.ts';
import { galleryImageVersions } from './gallery-image-versions.ts';
import { listReplicas } from './replica-rows.ts';
import { replicationStatus } from './replication-status.ts';
import { removeVersion } from './version-delete.ts';
import { patchVersion, putVersion } from './version-write.ts';

export const galleryImageVersionsProvider: ResourceProvider = Object.freeze({
  definition: galleryImageVersions,
  put: putVersion,
  patch: patchVersion,
  remove: removeVersion,
  show,
});

/** `$expand=ReplicationStatus` shows how far the replicas are. */
async function show(version: Resource, call: Call): Promise<JsonObject> {
  // Kiln's own; and of versions of an older Kiln nobody wrote the safety profile.
  const { operation: _, adding: _adding, safetyProfile, securityProfile, ...properties } = version.properties;
  const safety: JsonObject = {
    reportedForPolicyViolation: false,
    allowDeletionOfReplicatedLocations: false,
    ...(isObject(safetyProfile) && safetyProfile),
  };
  const { blockDeletionBeforeEndOfLife, ...older } = safety;
  const blocks = blockDeletionBeforeEndOfLife !== undefined && isSince(call.apiVersion, '2024-03-03');
  const wanted = call.query.get('$expand')?.toLowerCase() === 'replicationstatus';
  return {
    location: version.location,
    tags: version.tags ?? {},
    properties: {
      ...(properties as JsonObject),
      ...(isSince(call.apiVersion, '2022-03-03') && {
        safetyProfile: { ...older, ...(blocks && { blockDeletionBeforeEndOfLife }) },
      }),
      ...(securityProfile !== undefined && isSince(call.apiVersion, '2022-08-03') && { securityProfile }),
      ...(wanted && { replicationStatus: await status(version, call) }),
    },
  };
}

async function status(version: Resource, { environment }: Call): Promise<JsonObject> {
  const rows = await listReplicas(environment.database, version.id);
  const files = await filesOf(environment.home.root, version.id);
  const disks = files.filter(({ manifest }) => sameId(manifest.id, version.id));
  return replicationStatus(version, rows, new Set(disks.map(({ manifest }) => manifest.location)));
}
