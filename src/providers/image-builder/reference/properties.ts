/** The properties of an image template as a list, read from its schema: what the reference is made of, and what Microsoft's own files are held against. */
import type { TSchema } from '@sinclair/typebox';
import { isSince } from '../../../arm/api-versions.ts';
import type { SchemaNode } from '../../../arm/shape.ts';
import { IMAGE_BUILDER_API_VERSIONS } from '../api-versions.ts';
import { TemplateSchema } from '../schema.ts';

export interface TemplateProperty {
  /** `properties.distribute[](SharedImage).versioning(Latest).major`: `[]` for each of a list, `.*` for each of a map, the discriminator's word in brackets. */
  readonly path: string;
  /** `string`, `integer, 0 to 960`, `one of Enabled, Disabled`, `list of string`. */
  readonly type: string;
  /** The api-version that knows it first; the oldest one for what was always there. */
  readonly since: string;
  readonly required: boolean;
  readonly readOnly: boolean;
}

const OLDEST = IMAGE_BUILDER_API_VERSIONS.at(-1)!;

/** In the order of the schema, parts after the whole that they are in. */
export function templateProperties(schema: TSchema = TemplateSchema): TemplateProperty[] {
  return members(schema as SchemaNode, '', OLDEST);
}

/** @param since when what is around it came */
function members(node: SchemaNode, path: string, since: string): TemplateProperty[] {
  if (node.discriminator !== undefined)
    return node.anyOf!.flatMap(one => {
      const word = String(one.properties![node.discriminator!]!.const);
      return members(one, `${path}(${word})`, later(since, one.since));
    });
  if (node.items) return members(node.items, `${path}[]`, since);
  const each = Object.values(node.patternProperties ?? {})[0];
  if (each) return members(each, `${path}.*`, later(since, each.since));
  return Object.entries(node.properties ?? {}).flatMap(([name, property]) => {
    const here = path === '' ? name : `${path}.${name}`;
    const from = later(since, property.since);
    return [
      {
        path: here,
        type: typeOf(property),
        since: from,
        required: node.required?.includes(name) ?? false,
        readOnly: property.readOnly ?? false,
      },
      ...members(property, here, from),
    ];
  });
}

const later = (a: string, b: string | undefined): string => (b !== undefined && isSince(b, a) ? b : a);

function typeOf(node: SchemaNode): string {
  if (node.const !== undefined) return `"${node.const}"`;
  if (node.enum) return `one of ${node.enum.join(', ')}`;
  if (node.items) return `list of ${typeOf(node.items)}`;
  const each = Object.values(node.patternProperties ?? {})[0];
  if (each) return `map of ${typeOf(each)}`;
  if (node.discriminator !== undefined) return 'object';
  if (node.type !== 'integer') return node.type ?? 'any';
  const { minimum = -(2 ** 31), maximum = 2 ** 31 - 1 } = node;
  if (minimum === -(2 ** 31)) return 'integer';
  return maximum === 2 ** 31 - 1 ? `integer, at least ${minimum}` : `integer, ${minimum} to ${maximum}`;
}
