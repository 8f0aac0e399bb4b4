/** What a PATCH of an image template may change, by api-version, and what it then is (contract 4.4). Pure: no I/O. */
import { type Static, Type } from '@sinclair/typebox';
import { isSince } from '../../arm/api-versions.ts';
import { sameId } from '../../arm/ids.ts';
import { formatPath } from '../../arm/json-path.ts';
import { findRegion } from '../../arm/locations.ts';
import { limited, type Resource, type Violation } from '../../arm/resource-type.ts';
import { type Finding, isObject, type JsonObject, shape, stringMap } from '../../arm/shape.ts';
import { merged } from '../default-life.ts';
import { PATCH_DISTRIBUTE_SINCE, PATCH_PROFILE_SINCE, STRICT_SINCE } from './api-versions.ts';
import type { Distributor } from './distributors.ts';
import { type ImageTemplateProperties, normaliseTemplate } from './normalise.ts';
import type { TemplateIdentity } from './schema.ts';
import { validateTemplate } from './validate.ts';
import { violationOf } from './wording.ts';

/** What changes; whole values. */
export interface TemplateChange {
  readonly tags?: Readonly<Record<string, string>>;
  readonly identity?: TemplateIdentity;
  readonly distribute?: readonly Distributor[];
  readonly vmProfile?: NonNullable<ImageTemplateProperties['vmProfile']>;
}

const ignored = Type.Optional(Type.Unknown({ readOnly: true }));

/** The parts themselves are read with the template's own schema, once they are merged with what is there. */
const PatchSchema = Type.Object(
  {
    tags: Type.Optional(stringMap()),
    identity: Type.Optional(Type.Unknown()),
    properties: Type.Optional(
      Type.Object(
        {
          distribute: Type.Optional(Type.Unknown({ since: PATCH_DISTRIBUTE_SINCE })),
          vmProfile: Type.Optional(Type.Unknown({ since: PATCH_PROFILE_SINCE })),
        },
        { title: 'ImageTemplateUpdateParametersProperties' },
      ),
    ),
    ...Object.fromEntries(['id', 'name', 'type', 'location', 'systemData'].map(name => [name, ignored])),
  },
  { title: 'ImageTemplateUpdateParameters' },
);

type Patch = Static<typeof PatchSchema> & { readonly properties?: { distribute?: unknown; vmProfile?: unknown } };

export interface PatchCheck {
  /** Meaningless when there are violations. */
  readonly change: TemplateChange;
  readonly violations: readonly Violation[];
}

/** Reads an untrusted PATCH of a stored template. */
export function readPatch(body: JsonObject, template: Resource, apiVersion: string): PatchCheck {
  const caseSensitive = isSince(apiVersion, STRICT_SINCE);
  const { value, findings, leftOut } = shape(PatchSchema, body, { apiVersion, caseSensitive });
  const violations = [
    ...limited(
      findings.map(finding =>
        finding.kind === 'unknown' ? unpatchable(finding, apiVersion) : violationOf(finding, apiVersion),
      ),
      leftOut.unknown + leftOut.other,
    ),
  ];
  if (isElsewhere(body.location, template))
    violations.push(unpatchable({ kind: 'unknown', path: ['location'], types: [PatchSchema.title!] }, apiVersion));
  if (violations.length > 0) return { change: {}, violations };
  const patch = value as Patch;
  const { distribute, vmProfile } = patch.properties ?? {};
  const identity = patch.identity === undefined ? undefined : mergedIdentity(patch.identity, template);
  const whole = validateTemplate(
    {
      location: template.location,
      tags: patch.tags ?? template.tags,
      ...(identity !== undefined && { identity }),
      properties: {
        source: STAND_IN_SOURCE,
        distribute: distribute ?? template.properties.distribute,
        ...(vmProfile !== undefined && { vmProfile: merged(template.properties.vmProfile, vmProfile) }),
      },
    },
    { apiVersion, identityOptional: true },
  );
  const given = [
    ...(patch.tags ? ['tags'] : []),
    ...(identity !== undefined ? ['identity'] : []),
    ...(distribute !== undefined ? ['properties.distribute'] : []),
    ...(vmProfile !== undefined ? ['properties.vmProfile'] : []),
  ];
  // What has no path says that there is more. What was valid when the template was made is not judged again by the rules of another api-version.
  violations.push(...whole.violations.filter(({ path }) => path === '' || given.some(part => path.startsWith(part))));
  if (violations.length > 0) return { change: {}, violations };
  const names = new Set(whole.template.properties.distribute.map(one => one?.runOutputName?.toLowerCase()));
  if (distribute !== undefined) violations.push(...dropped(template, names));
  if (violations.length > 0) return { change: {}, violations };
  const normal = normaliseTemplate(
    {
      ...whole.template,
      properties: { ...whole.template.properties, ...(distribute === undefined && { distribute: [] }) },
    },
    apiVersion,
  );
  return {
    change: {
      ...(patch.tags && { tags: patch.tags }),
      ...(normal.identity && { identity: normal.identity }),
      ...(distribute !== undefined && { distribute: normal.properties.distribute }),
      ...(normal.properties.vmProfile && { vmProfile: normal.properties.vmProfile }),
    },
    violations,
  };
}

/** Clients send back what they have read: only another location is a change. */
function isElsewhere(location: unknown, template: Resource): boolean {
  if (location === undefined || location === null) return false;
  return typeof location !== 'string' || findRegion(location)?.name !== template.location;
}

/** A source cannot be patched, and is not looked at here. */
const STAND_IN_SOURCE = Object.freeze({
  type: 'PlatformImage',
  publisher: '-',
  offer: '-',
  sku: '-',
  version: 'latest',
});

/**
 * The identities as they are to be: those of the template, without the ones that are null, with the others; ids compare without case. What is malformed stays as
 * it is, for validation to tell.
 */
function mergedIdentity(patch: unknown, template: Resource): unknown {
  if (!isObject(patch)) return patch;
  const entry = (name: string) => Object.entries(patch).find(([key]) => key.toLowerCase() === name.toLowerCase());
  const type = entry('type')?.[1] ?? template.identity?.type;
  const given = entry('userAssignedIdentities')?.[1];
  if (type !== 'UserAssigned' || (given !== undefined && given !== null && !isObject(given))) return { ...patch, type };
  const entries = Object.entries((given as JsonObject | null | undefined) ?? {});
  const before = Object.keys((template.identity?.userAssignedIdentities as JsonObject | undefined) ?? {});
  const kept = before.filter(id => !entries.some(([key]) => sameId(key, id)));
  const added = entries.filter(([, value]) => value !== null);
  const removed = entries.length > added.length;
  if (kept.length + added.length === 0 && removed) return { type: 'None' };
  return { type, userAssignedIdentities: Object.fromEntries([...kept.map(id => [id, {}]), ...added]) };
}

function dropped(template: Resource, names: ReadonlySet<string | undefined>): Violation[] {
  return (template.properties.distribute as Distributor[])
    .filter(({ runOutputName }) => !names.has(runOutputName.toLowerCase()))
    .map(({ runOutputName }) => ({
      path: 'properties.distribute',
      message: `Validation failed: Distribute target with Runoutput name ${runOutputName} not found in the update request. Deleting a distribution target is not allowed.`,
      hint: 'The list has to contain all targets: new ones, those that change, and those that do not.',
    }));
}

/** Strict api-versions say what the real service says of any unknown member; for the others nothing is recorded. */
function unpatchable(finding: Finding, apiVersion: string): Violation {
  const hint = `In api-version ${apiVersion} these can be changed: ${[
    'tags',
    'identity',
    ...(isSince(apiVersion, PATCH_DISTRIBUTE_SINCE) ? ['properties.distribute'] : []),
    ...(isSince(apiVersion, PATCH_PROFILE_SINCE) ? ['properties.vmProfile'] : []),
  ].join(', ')}. For everything else make a new template.`;
  if (isSince(apiVersion, STRICT_SINCE)) return { ...violationOf(finding, apiVersion), hint };
  const path = formatPath(finding.path);
  return {
    path,
    message: `Validation failed: '${formatPath(['ImageTemplate', ...finding.path])}' cannot be updated.`,
    hint,
  };
}
