/** Microsoft.VirtualMachineImages/imageTemplates (contract 1). Creating one is an operation: its scripts and files are fetched (prepare.ts). */
import type { ResourceType } from '../../arm/resource-type.ts';
import type { StoredResource } from '../store.ts';
import { IMAGE_BUILDER_API_VERSIONS, NEWEST_API_VERSION } from './api-versions.ts';
import { type ImageTemplate, type ImageTemplateProperties, normaliseTemplate } from './normalise.ts';
import type { TemplateIdentity } from './schema.ts';
import { checkTemplateName, TEMPLATE_TYPE, validateTemplate } from './validate.ts';

export const imageTemplates: ResourceType = Object.freeze({
  type: TEMPLATE_TYPE,
  apiVersions: IMAGE_BUILDER_API_VERSIONS,
  kind: 'tracked',
  create: 'operation',
  delete: 'operation',
  violationCode: 'ValidationFailed',
  refuseUpdate:
    'Update/Upgrade of image templates is currently not supported. Please change the name of the template you are submitting. If you have previously tried to submit a template and it failed to provision, you must delete it first and then resubmit. For more information, go to https://aka.ms/azvmimagebuilderts.',
  checkName: checkTemplateName,
  validate(body, context) {
    const { violations, warnings, template } = validateTemplate(body, {
      apiVersion: context.apiVersion,
      localFiles: context.local,
      identityOptional: context.local,
    });
    if (violations.length > 0) return { resource: { properties: {} }, violations, warnings };
    const { location, tags, identity, properties } = normaliseTemplate(template, context.apiVersion);
    return {
      resource: {
        location,
        tags,
        ...(identity && { identity }),
        properties: { ...properties, provisioningState: 'Creating' },
      },
      violations,
      warnings,
    };
  },
} satisfies ResourceType);

/** A stored template as builds read it. */
export function templateOf(resource: StoredResource): ImageTemplate {
  const {
    provisioningState: _state,
    provisioningError: _error,
    lastRunStatus: _run,
    ...properties
  } = resource.properties;
  return {
    id: resource.id,
    apiVersion: resource.apiVersion ?? NEWEST_API_VERSION,
    location: resource.location!,
    tags: resource.tags ?? {},
    ...(resource.identity && { identity: resource.identity as TemplateIdentity }),
    properties: properties as unknown as ImageTemplateProperties,
  };
}
