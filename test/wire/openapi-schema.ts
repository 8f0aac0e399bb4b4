/**
 * Schemas of swagger 2.0 as JSON Schema for ajv. Inheritance (`allOf`) is flattened, so that a member that no ancestor names can be told; a type with a
 * discriminator becomes the choice between its subtypes.
 */

export type Json = Readonly<Record<string, unknown>>;

/** A schema and the document that its references are relative to. */
export interface Located {
  readonly file: string;
  readonly schema: Json;
}

export interface Resolver {
  /** Reads `file.json#/definitions/X` as it stands in a document. */
  resolve(reference: string, from: string): Located & { readonly key: string };
  /** All definitions of a document: subtypes are found among them. */
  definitions(file: string): Readonly<Record<string, Json>>;
}

/**
 * What is validated. Answers must keep to every word: no unknown members, only known enum values. In requests read-only members mean nothing, and enums that
 * are `modelAsString` may have any text.
 */
export type Direction = 'request' | 'response';

export interface SchemaOptions {
  readonly direction: Direction;
  /** Whether members that the schema does not name are reported. */
  readonly closed: boolean;
}

interface Flat {
  readonly properties: Map<string, Located>;
  readonly required: Set<string>;
  additional: Located | undefined;
}

/** One self-contained JSON Schema. Microsoft's extensions and descriptions are gone; references are to its own `$defs`. */
export function jsonSchema(root: Located, resolver: Resolver, options: SchemaOptions): Json {
  const defs: Record<string, Json> = {};
  const converted = convert(root);
  return { ...converted, $defs: defs };

  function convert({ file, schema }: Located): Json {
    if (typeof schema.$ref === 'string') {
      const { key, ...target } = resolver.resolve(schema.$ref, file);
      const name = key.replaceAll(/[^\w.]/g, '_');
      if (!(name in defs)) {
        // Before it is converted: definitions refer to themselves.
        defs[name] = {};
        defs[name] = 'discriminator' in target.schema ? choice(target) : convert(target);
      }
      return { $ref: `#/$defs/${name}` };
    }
    if (schema.type === 'array')
      return { type: 'array', ...keep(schema), items: convert({ file, schema: (schema.items ?? {}) as Json }) };
    if (schema.type === undefined || schema.type === 'object') {
      if ('properties' in schema || 'allOf' in schema || 'additionalProperties' in schema || schema.type === 'object')
        return object({ file, schema });
      return {};
    }
    return { type: schema.type === 'file' ? 'string' : schema.type, ...keep(schema) };
  }

  function keep(schema: Json): Json {
    const words = ['format', 'pattern', 'minLength', 'maxLength', 'minimum', 'maximum', 'minItems', 'maxItems'];
    const open = (schema['x-ms-enum'] as Json | undefined)?.modelAsString === true;
    return {
      ...Object.fromEntries(words.filter(word => word in schema).map(word => [word, schema[word]])),
      ...('enum' in schema && !(open && options.direction === 'request') && { enum: schema.enum }),
    };
  }

  function object(located: Located, discriminated?: { readonly name: string; readonly value: string }): Json {
    const { properties, required, additional } = flatten(located);
    const members = [...properties].map(([name, member]): [string, Json] => {
      if (discriminated?.name === name) return [name, { const: discriminated.value }];
      if (options.direction === 'request' && isReadOnly(member)) return [name, {}];
      return [name, convert(member)];
    });
    if (options.direction === 'request')
      for (const [name, member] of properties) if (isReadOnly(member)) required.delete(name);
    // `type: object` alone is any object.
    const shut = options.closed && properties.size > 0 && !additional;
    return {
      type: 'object',
      properties: Object.fromEntries(members),
      required: [...required],
      ...(additional ? { additionalProperties: convert(additional) } : shut && { additionalProperties: false }),
    };
  }

  function isReadOnly({ file, schema }: Located): boolean {
    if (schema.readOnly === true) return true;
    return typeof schema.$ref === 'string' && resolver.resolve(schema.$ref, file).schema.readOnly === true;
  }

  function flatten(
    { file, schema }: Located,
    into: Flat = { properties: new Map(), required: new Set(), additional: undefined },
  ): Flat {
    if (typeof schema.$ref === 'string') return flatten(resolver.resolve(schema.$ref, file), into);
    for (const parent of (schema.allOf ?? []) as Json[]) flatten({ file, schema: parent }, into);
    for (const [name, member] of Object.entries((schema.properties ?? {}) as Record<string, Json>))
      into.properties.set(name, { file, schema: member });
    for (const name of (schema.required ?? []) as string[]) into.required.add(name);
    const { additionalProperties } = schema;
    if (typeof additionalProperties === 'object' && additionalProperties !== null)
      into.additional = { file, schema: additionalProperties as Json };
    else if (additionalProperties === true) into.additional = { file, schema: {} };
    return into;
  }

  /** The subtypes of a discriminated type, of its own document. */
  function choice(base: Located): Json {
    const name = base.schema.discriminator as string;
    const subtypes = Object.entries(resolver.definitions(base.file)).filter(([, schema]) => descends(schema, base));
    if (subtypes.length === 0) return object(base);
    return {
      type: 'object',
      required: [name],
      discriminator: { propertyName: name },
      oneOf: subtypes.map(([own, schema]) =>
        object({ file: base.file, schema }, { name, value: String(schema['x-ms-discriminator-value'] ?? own) }),
      ),
    };
  }

  function descends(schema: Json, base: Located): boolean {
    return ((schema.allOf ?? []) as Json[]).some(({ $ref }) => {
      if (typeof $ref !== 'string') return false;
      const parent = resolver.resolve($ref, base.file);
      return parent.schema === base.schema || (parent.file === base.file && descends(parent.schema, base));
    });
  }
}
