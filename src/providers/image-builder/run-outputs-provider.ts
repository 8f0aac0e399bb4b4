/** Run outputs as the front door serves them: rows of runs, read-only. */
import { formatId, idKey, parentId } from '../../arm/ids.ts';
import type { Resource } from '../../arm/resource-type.ts';
import type { ListCall, ResourceCall, ResourceProvider } from '../provider.ts';
import { runOutputResource, runOutputs } from './run-outputs.ts';

export const runOutputsProvider: ResourceProvider = Object.freeze({
  definition: runOutputs,
  groupSegment: 'resourcegroups',
  async read({ environment: { database }, id }: ResourceCall): Promise<Resource | undefined> {
    const row = await database
      .selectFrom('run_output')
      .selectAll()
      .where('id', '=', idKey(id))
      .where('template_id', '=', idKey(parentId(id)!))
      .executeTakeFirst();
    return row && runOutputResource(row);
  },
  async list({ environment: { database }, scope }: ListCall): Promise<readonly Resource[]> {
    if (!scope.parent) return [];
    const rows = await database
      .selectFrom('run_output')
      .selectAll()
      .where('template_id', '=', idKey(formatId(scope.parent)))
      .orderBy('id')
      .execute();
    return rows.map(runOutputResource);
  },
} satisfies ResourceProvider);
