/** The envelope that all tracked resources but the image template share: location, tags, properties; and Compute's words for what is wrong with them. */
import { type Static, type TObject, Type } from '@sinclair/typebox';
import { KilnError } from '../arm/errors.ts';
import { formatPath } from '../arm/json-path.ts';
import { requireRegion } from '../arm/locations.ts';
import { limited, type ValidationContext, type Violation } from '../arm/resource-type.ts';
import { type Finding, isObject, type JsonObject, shape, stringMap } from '../arm/shape.ts';
import { brokenTags } from '../arm/tags.ts';

export interface Tracked<Properties> {
  /** A region's name. */
  readonly location: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Of the schema's type when there are no violations. */
  readonly properties: Properties;
  readonly violations: readonly Violation[];
  readonly warnings: readonly string[];
}

/**
 * Reads an untrusted body. `entity` is what the provider calls the thing in its messages: `galleryImage`.
 * Errors: InvalidRequestContent, LocationRequired, LocationNotAvailableForResourceType.
 */
export function readTracked<Properties extends TObject>(
  body: unknown,
  properties: Properties,
  entity: string,
  context: ValidationContext,
): Tracked<Static<Properties>> {
  const given = isObject(body) ? body : {};
  const schema = Type.Object({ location: Type.Optional(Type.String()), tags: Type.Optional(stringMap()), properties });
  const shaped = shape(
    schema,
    { location: given.location, tags: given.tags, properties: given.properties ?? {} },
    { apiVersion: context.apiVersion, caseSensitive: false },
  );
  const { findings, leftOut } = shaped;
  const value = shaped.value as { tags?: Record<string, string>; properties?: Static<Properties> };
  const location = requireRegion(textOf(given.location), context.id.type).name;
  return {
    location,
    tags: value.tags ?? {},
    properties: value.properties ?? ({} as Static<Properties>),
    violations: limited(
      [
        ...findings.filter(finding => finding.kind !== 'unknown').map(finding => computeViolation(finding, entity)),
        ...tagViolations(value.tags),
      ],
      leftOut.other,
    ),
    warnings: findings
      .filter(finding => finding.kind === 'unknown')
      .map(finding => `${formatPath(finding.path)} is not known and is ignored.`),
  };
}

/** A location; null is none. Errors: InvalidRequestContent for what is no text. */
function textOf(location: unknown): string | undefined {
  if (typeof location === 'string') return location;
  if (location === undefined || location === null) return undefined;
  throw new KilnError(
    'InvalidRequestContent',
    "The request content was invalid and could not be deserialized: 'The location is a text.'.",
    { target: 'location' },
  );
}

/** Resource Manager's own limits, whatever the type: the same code for a PUT and for a PATCH of the tags alone. */
const tagViolations = (tags: Readonly<Record<string, string>> | undefined): Violation[] =>
  brokenTags(tags).map(({ code, reason }) => ({ path: 'tags', message: reason, code }));

/** Compute's sentences for a missing parameter and for a bad one. */
function computeViolation(finding: Finding, entity: string): Violation {
  const path = formatPath(finding.path);
  const parameter = `${entity}.${path}`;
  if (finding.kind === 'missing') return { path, message: `Required parameter '${parameter}' is missing (null).` };
  return {
    path,
    message: `The value of parameter ${parameter} is invalid.`,
    ...(finding.reason !== undefined && { hint: finding.reason }),
  };
}

/** Properties that an existing resource keeps for good. */
export function immutable(
  properties: JsonObject,
  existing: JsonObject | undefined,
  entity: string,
  fields: readonly (readonly string[])[],
): Violation[] {
  if (!existing) return [];
  const at = (value: JsonObject, path: readonly string[]): unknown =>
    path.reduce<unknown>((part, segment) => (isObject(part) ? part[segment] : undefined), value);
  return fields
    .filter(path => JSON.stringify(at(properties, path)) !== JSON.stringify(at(existing, path)))
    .map(path => ({
      path: formatPath(['properties', ...path]),
      message: `Changing property '${entity}.properties.${path.join('.')}' is not allowed.`,
      code: 'PropertyChangeNotAllowed' as const,
    }));
}
