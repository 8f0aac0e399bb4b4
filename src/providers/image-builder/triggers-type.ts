/** Microsoft.VirtualMachineImages/imageTemplates/triggers: the definition and its rules (contract 1.3, 4.3). */
import { Type } from '@sinclair/typebox';
import { isSince } from '../../arm/api-versions.ts';
import { sameId } from '../../arm/ids.ts';
import { formatPath } from '../../arm/json-path.ts';
import { findRegion } from '../../arm/locations.ts';
import {
  limited,
  type Resource,
  type ResourceType,
  type ValidationContext,
  type Violation,
} from '../../arm/resource-type.ts';
import { shape, variants } from '../../arm/shape.ts';
import { IMAGE_BUILDER_API_VERSIONS, STRICT_SINCE } from './api-versions.ts';
import { parseGalleryImageId } from './distributors.ts';
import type { ImageTemplateProperties } from './normalise.ts';
import { checkTemplateName, TEMPLATE_TYPE } from './validate.ts';
import { violationOf } from './wording.ts';

export const TRIGGER_TYPE = `${TEMPLATE_TYPE}/triggers`;

const TRIGGERS_SINCE = '2022-07-01';

const readOnly = Type.Optional(Type.Unknown({ readOnly: true }));

const TriggerSchema = Type.Object(
  {
    ...{ id: readOnly, name: readOnly, type: readOnly, systemData: readOnly },
    // A trigger has none; but `az resource create --is-full-object` demands one (az-wire 8.9).
    location: Type.Optional(Type.String()),
    properties: variants('kind', [
      Type.Object(
        { kind: Type.Literal('SourceImage'), status: readOnly, provisioningState: readOnly },
        { title: 'SourceImageTriggerProperties' },
      ),
    ]),
  },
  { title: 'Trigger' },
);

export const triggers: ResourceType = Object.freeze({
  type: TRIGGER_TYPE,
  apiVersions: Object.freeze(IMAGE_BUILDER_API_VERSIONS.filter(version => isSince(version, TRIGGERS_SINCE))),
  kind: 'proxy',
  parent: TEMPLATE_TYPE,
  create: 'operation',
  delete: 'operation',
  violationCode: 'ValidationFailed',
  checkName: checkTemplateName,
  validate(body, context) {
    const { apiVersion, existing } = context;
    const strict = isSince(apiVersion, STRICT_SINCE);
    const { value, findings, leftOut } = shape(TriggerSchema, body, { apiVersion, caseSensitive: strict });
    const violations = [
      ...limited(
        findings
          .filter(finding => strict || finding.kind !== 'unknown')
          .map(finding => (existing && finding.kind === 'discriminator' ? kindChanged() : worded(finding, apiVersion))),
        leftOut.other + (strict ? leftOut.unknown : 0),
      ),
    ];
    if (violations.length === 0) violations.push(...locationViolations(value.location, context));
    return {
      resource: {
        properties: {
          kind: 'SourceImage',
          ...(existing?.properties.status !== undefined && { status: existing.properties.status }),
          provisioningState: existing ? 'Updating' : 'Creating',
        },
      },
      violations: [...deletion(existing), ...violations, ...templateViolations(context)],
      warnings: findings
        .filter(finding => !strict && finding.kind === 'unknown')
        .map(({ path }) => `${formatPath(path)} is not known in api-version ${apiVersion} and is ignored.`),
    };
  },
} satisfies ResourceType);

const deletion = (existing: Resource | undefined): Violation[] =>
  existing?.properties.provisioningState === 'Deleting'
    ? [{ path: '', message: `The trigger '${existing.name}' is being deleted.`, code: 'Conflict' }]
    : [];

const worded = (...[finding, apiVersion]: Parameters<typeof violationOf>): Violation =>
  violationOf(finding, apiVersion, 'Trigger');

const kindChanged = (): Violation => ({
  path: 'properties.kind',
  message: "Changing property 'trigger.properties.kind' is not allowed.",
  code: 'PropertyChangeNotAllowed',
});

function locationViolations(location: string | undefined, { parent }: ValidationContext): Violation[] {
  if (location === undefined || findRegion(location)?.name === parent?.location) return [];
  return [
    {
      path: 'location',
      message: `The location in the trigger must be the same as the location in the image template: '${parent?.location}', not '${location}'.`,
      hint: 'A trigger needs no location.',
    },
  ];
}

/** What the template must be like. A rule that the template breaks is told even when the body is wrong, too: it cannot be repaired by another body. */
function templateViolations({ parent, siblings }: ValidationContext): Violation[] {
  if (!parent) return [];
  const state = String(parent.properties.provisioningState);
  // An unprovisioned template may have no valid properties to look at.
  if (state !== 'Succeeded')
    return [
      {
        path: '',
        message: `A trigger can only be made for an image template that is provisioned. The provisioning state of '${parent.name}' is '${state}'.`,
        code: 'Conflict',
        hint: 'Wait until it is Succeeded. A template that failed must be deleted and made again.',
      },
    ];
  const others = siblings.map(sibling => sibling.name);
  return [
    ...(others.length > 0
      ? [
          {
            path: '',
            message: `An image template can have one trigger of kind 'SourceImage', and '${parent.name}' has '${others[0]}' already.`,
            code: 'Conflict' as const,
            hint: 'Delete that one first, or keep it: all triggers of this kind do the same.',
          },
        ]
      : []),
    ...sourceViolations(parent),
  ];
}

/** What of a template forbids a trigger, now and as long as it has one. */
export function sourceViolations({ properties }: Pick<Resource, 'properties'>): Violation[] {
  const { source, distribute } = properties as unknown as ImageTemplateProperties;
  const violations: Violation[] = [];
  const rule = (path: string, message: string, hint: string) =>
    violations.push({ path, message: `Validation failed: 'Trigger': ${message}`, hint });
  const latest =
    source.type === 'PlatformImage'
      ? source.version.toLowerCase() === 'latest'
      : source.type === 'SharedImageVersion' && /\/versions\/latest\/?$/i.test(source.imageVersionId);
  if (!latest)
    rule(
      'properties.source',
      `The source of the image template, ${describe(source)}, never gets newer.`,
      "A trigger needs a PlatformImage source of version 'latest', or a SharedImageVersion source whose id ends in /versions/latest.",
    );
  const from =
    source.type === 'SharedImageVersion' ? source.imageVersionId.replace(/\/versions\/[^/]+\/?$/i, '') : undefined;
  distribute.forEach((distributor, index) => {
    if (distributor.type !== 'SharedImage') return;
    const path = `properties.distribute[${index}].galleryImageId`;
    const target = parseGalleryImageId(distributor.galleryImageId);
    if (target?.version !== undefined)
      rule(
        path,
        `The image template distributes to the one version '${target.version}' of a gallery image, which can be made only once.`,
        'Leave the version out of galleryImageId: each build gets the next one then.',
      );
    if (from !== undefined && target && sameId(from, target.definitionId))
      rule(
        path,
        'The image template distributes to the image definition that it starts from: each build would start the next one.',
        'Distribute to another image definition.',
      );
  });
  return violations;
}

function describe(source: ImageTemplateProperties['source']): string {
  switch (source.type) {
    case 'PlatformImage':
      return `version '${source.version}' of a platform image`;
    case 'ManagedImage':
      return 'a managed image';
    case 'SharedImageVersion':
      return `version '${source.imageVersionId.replace(/\/$/, '').split('/').at(-1)}' of a gallery image`;
  }
}
