/** Microsoft.VirtualMachineImages/imageTemplates/runOutputs: what a run distributed, one for each runOutputName (contract 1.5). Rows of their own, made by runs. */
import type { Resource, ResourceType } from '../../arm/resource-type.ts';
import type { RunOutputRow } from '../../database/schema.ts';
import { IMAGE_BUILDER_API_VERSIONS } from './api-versions.ts';
import { checkTemplateName, TEMPLATE_TYPE } from './validate.ts';

export const RUN_OUTPUT_TYPE = `${TEMPLATE_TYPE}/runOutputs`;

export const runOutputs: ResourceType = Object.freeze({
  type: RUN_OUTPUT_TYPE,
  apiVersions: IMAGE_BUILDER_API_VERSIONS,
  kind: 'proxy',
  parent: TEMPLATE_TYPE,
  violationCode: 'ValidationFailed',
  checkName: checkTemplateName,
  validate: () => ({
    resource: { properties: {} },
    violations: [{ path: '', message: 'Run outputs are read-only.' }],
    warnings: [],
  }),
} satisfies ResourceType);

/** A row as the resource that clients see: `artifactId` of an image, `artifactUri` of a VHD. */
export function runOutputResource(
  row: Pick<RunOutputRow, 'display_id' | 'name' | 'artifact_id' | 'artifact_uri'>,
): Resource {
  return {
    id: row.display_id,
    name: row.name,
    type: RUN_OUTPUT_TYPE,
    properties: {
      ...(row.artifact_uri !== null
        ? { artifactUri: row.artifact_uri }
        : row.artifact_id !== null && { artifactId: row.artifact_id }),
      provisioningState: 'Succeeded',
    },
  };
}
