/** Run outputs as the front door serves them: rows of runs, read-only. */
import { formatId, idKey, parentId } from '../../arm/ids.ts';
import type { Resource } from '../../arm/resource-type.ts';
import type { RunOutputRow } from '../../database/schema.ts';
import type { ListCall, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, type StoredResource } from '../store.ts';
import { runOutputResource, runOutputs } from './run-outputs.ts';
import { vhdLocation } from './staged-blobs.ts';

export const runOutputsProvider: ResourceProvider = Object.freeze({
  definition: runOutputs,
  groupSegment: 'resourcegroups',
  untagged: true,
  async read({ environment: { database }, id, origin }: ResourceCall): Promise<Resource | undefined> {
    const row = await database
      .selectFrom('run_output')
      .selectAll()
      .where('id', '=', idKey(id))
      .where('template_id', '=', idKey(parentId(id)!))
      .executeTakeFirst();
    return row && fetchable(runOutputResource(row), row, await getResource(database, row.template_id), origin);
  },
  async list({ environment: { database }, scope, origin }: ListCall): Promise<readonly Resource[]> {
    if (!scope.parent) return [];
    const rows = await database
      .selectFrom('run_output')
      .selectAll()
      .where('template_id', '=', idKey(formatId(scope.parent)))
      .orderBy('id')
      .execute();
    const template = await getResource(database, scope.parent);
    return rows.map(row => fetchable(runOutputResource(row), row, template, origin));
  },
} satisfies ResourceProvider);

/** A VHD's address is where a client of the API fetches it, not where it lies on this host; one that was uploaded has an address of its own. */
function fetchable(
  output: Resource,
  row: RunOutputRow,
  template: StoredResource | undefined,
  origin: string,
): Resource {
  const location = row.artifact_uri === null || row.path === null ? undefined : vhdLocation(template, row);
  if (location === undefined) return output;
  return { ...output, properties: { ...output.properties, artifactUri: `${origin}${location}` } };
}
