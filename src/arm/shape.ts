/**
 * Reads an untrusted JSON value against a TypeBox schema and finds everything that is wrong with it at once, to a limit. The result is a clean copy: known
 * properties in their canonical spelling, without nulls (Azure takes null as absent), unknown and read-only ones. How a finding is worded is the
 * provider's affair, since each one of Azure's has its own sentences.
 *
 * Annotations that schemas may carry: `since` (api-version), `readOnly`, `title` (Azure's name of the type),
 * `discriminator` (on a union: the property that says which member is meant), `minItems`, `minimum`, `maximum`, `pattern`, `enum`, `reason`
 * (plain words for a value that breaks the pattern).
 */
import type { Static, TSchema } from '@sinclair/typebox';
import { Type } from '@sinclair/typebox';
import { isSince } from './api-versions.ts';
import { collectFindings, type Findings, type LeftOut } from './findings.ts';
import type { JsonPath } from './json-path.ts';

export interface Finding {
  /** missing: a required property; value: a bad one; discriminator: a type that is none; unknown: a property nobody knows; rule: several properties don't go together. */
  readonly kind: 'missing' | 'value' | 'discriminator' | 'unknown' | 'rule';
  /** The property itself; for `rule` the object that holds the properties. */
  readonly path: JsonPath;
  readonly value?: unknown;
  /** What is wrong, in plain words. */
  readonly reason?: string;
  /** For `unknown`: Azure's names of the types from the outermost to the one that holds the property. */
  readonly types?: readonly string[];
}

export interface ShapeOptions {
  /** Properties and variants that came later are unknown. */
  readonly apiVersion: string;
  /** Whether `vmboot` is unknown where `vmBoot` is meant, and `premium_lrs` no value where `Premium_LRS` is. */
  readonly caseSensitive: boolean;
  /** Read-only properties are kept: for what is shown rather than for what was sent. */
  readonly keepReadOnly?: boolean;
}

export interface Shaped<T> {
  /** Of the schema's type when there are no findings but unknown ones. */
  readonly value: T;
  readonly findings: readonly Finding[];
  /** How many more there are. */
  readonly leftOut: LeftOut;
}

/** A string that is one of these words. */
export function oneOf<const Words extends readonly string[]>(words: Words, options: object = {}) {
  return Type.Unsafe<Words[number]>({ type: 'string', enum: words, ...options });
}

/** An object whose property `by` says which of the members it is. The members declare that property as a literal. */
export function variants<Members extends TSchema[]>(by: string, members: [...Members], options: object = {}) {
  return Type.Unsafe<Static<Members[number]>>({ discriminator: by, anyOf: members, ...options });
}

export const stringMap = (options: object = {}) => Type.Record(Type.String(), Type.String(), options);

export const int32 = (options: { minimum?: number; maximum?: number; since?: string } = {}) =>
  Type.Integer({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1, ...options });

/** What is read of a schema. TypeBox's schemas are JSON Schema, and so is this. */
export interface SchemaNode {
  readonly type?: string;
  readonly title?: string;
  readonly since?: string;
  readonly readOnly?: boolean;
  readonly discriminator?: string;
  readonly anyOf?: readonly SchemaNode[];
  readonly enum?: readonly string[];
  readonly const?: unknown;
  readonly pattern?: string;
  readonly reason?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly items?: SchemaNode;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>;
}

export function shape<Schema extends TSchema>(
  schema: Schema,
  value: unknown,
  options: ShapeOptions,
  at: JsonPath = [],
): Shaped<Static<Schema>> {
  const findings = collectFindings();
  const shaped = read(schema as SchemaNode, value, at, [], { ...options, findings });
  return { value: shaped as Static<Schema>, findings: findings.list, leftOut: findings.leftOut };
}

interface Reading extends ShapeOptions {
  readonly findings: Findings;
}

function read(schema: SchemaNode, value: unknown, path: JsonPath, types: readonly string[], reading: Reading): unknown {
  const bad = (reason: string): undefined => void reading.findings.add({ kind: 'value', path, value, reason });
  if (schema.discriminator !== undefined) return readVariant(schema, schema.discriminator, value, path, types, reading);
  switch (schema.type) {
    case 'object':
      if (!isObject(value)) return bad('It must be an object: { … }.');
      if (schema.patternProperties)
        return readMap(Object.values(schema.patternProperties)[0]!, value, path, types, reading);
      return readObject(schema, value, path, types, reading);
    case 'array':
      if (!Array.isArray(value)) return bad('It must be a list: [ … ].');
      if (value.length < (schema.minItems ?? 0)) return bad('It must not be empty.');
      return value.map((item, index) => read(schema.items!, item, [...path, index], types, reading));
    case 'string':
      if (typeof value !== 'string') return bad('It must be a string, in quotes.');
      if (schema.enum && !schema.enum.includes(value)) {
        const meant = reading.caseSensitive
          ? undefined
          : schema.enum.find(word => word.toLowerCase() === value.toLowerCase());
        return meant ?? bad(`It must be one of ${listed(schema.enum)}.`);
      }
      if (value.length < (schema.minLength ?? 0)) return bad('It must not be empty.');
      if (value.length > (schema.maxLength ?? Number.POSITIVE_INFINITY))
        return bad(`It must not be longer than ${schema.maxLength} characters.`);
      if (schema.pattern !== undefined && !new RegExp(schema.pattern, 'u').test(value))
        return bad(schema.reason ?? `It must match ${schema.pattern}.`);
      return value;
    case 'integer':
      if (!Number.isInteger(value))
        return bad(`It must be a whole number${typeof value === 'string' ? ', without quotes' : ''}.`);
      if ((value as number) < (schema.minimum ?? -Infinity)) return bad(`It must be at least ${schema.minimum}.`);
      if ((value as number) > (schema.maximum ?? Infinity)) return bad(`It must be at most ${schema.maximum}.`);
      return value;
    case 'boolean':
      if (typeof value !== 'boolean')
        return bad(`It must be true or false${typeof value === 'string' ? ', without quotes' : ''}.`);
      return value;
    default:
      return value;
  }
}

function readVariant(
  schema: SchemaNode,
  by: string,
  value: unknown,
  path: JsonPath,
  types: readonly string[],
  reading: Reading,
): unknown {
  if (!isObject(value))
    return void reading.findings.add({ kind: 'value', path, value, reason: 'It must be an object: { … }.' });
  const members = (schema.anyOf ?? []).filter(
    member => member.since === undefined || isSince(reading.apiVersion, member.since),
  );
  const given = membersOf(value, reading.caseSensitive)(by);
  const chosen = members.find(one => one.properties?.[by]?.const === given?.value);
  if (chosen) return readObject(chosen, value, path, types, reading);
  const words = members.map(one => String(one.properties?.[by]?.const));
  const meant =
    typeof given?.value === 'string' && words.find(word => word.toLowerCase() === String(given.value).toLowerCase());
  reading.findings.add({
    kind: 'discriminator',
    path: [...path, given?.key ?? by],
    value: given?.value ?? '',
    reason: meant ? `Write '${meant}': case matters here.` : `It must be one of ${listed(words)}.`,
  });
  return undefined;
}

function readObject(
  schema: SchemaNode,
  value: JsonObject,
  path: JsonPath,
  outer: readonly string[],
  reading: Reading,
): JsonObject {
  const types = schema.title === undefined ? outer : [...outer, schema.title];
  const known = Object.entries(schema.properties ?? {}).filter(
    ([, property]) => property.since === undefined || isSince(reading.apiVersion, property.since),
  );
  const result: JsonObject = {};
  const used = new Set<string>();
  const member = membersOf(value, reading.caseSensitive);
  for (const [name, property] of known) {
    const given = member(name);
    if (given) used.add(given.key);
    if (property.readOnly && !reading.keepReadOnly) continue;
    if (given?.value === undefined || given.value === null) {
      if (schema.required?.includes(name)) reading.findings.add({ kind: 'missing', path: [...path, name] });
    } else if (property.const !== undefined) result[name] = given.value;
    else {
      const shaped = read(property, given.value, [...path, given.key], types, reading);
      if (shaped !== undefined) result[name] = shaped;
    }
  }
  for (const key of Object.keys(value))
    if (!used.has(key)) reading.findings.add({ kind: 'unknown', path: [...path, key], value: value[key], types });
  return result;
}

function readMap(
  schema: SchemaNode,
  value: JsonObject,
  path: JsonPath,
  types: readonly string[],
  reading: Reading,
): JsonObject {
  const entries = Object.entries(value).filter(([, item]) => item !== null);
  return Object.fromEntries(entries.map(([key, item]) => [key, read(schema, item, [...path, key], types, reading)]));
}

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Finds own properties by name; where case does not matter, the exact spelling wins, then the first. Keys are gone through once, however many there are. */
function membersOf(value: JsonObject, caseSensitive: boolean) {
  let keys: Map<string, string> | undefined;
  return (name: string): { key: string; value: unknown } | undefined => {
    if (Object.hasOwn(value, name)) return { key: name, value: value[name] };
    if (caseSensitive) return undefined;
    keys ??= new Map(
      Object.keys(value)
        .reverse()
        .map(key => [key.toLowerCase(), key]),
    );
    const key = keys.get(name.toLowerCase());
    return key === undefined ? undefined : { key, value: value[key] };
  };
}

function listed(words: readonly string[]): string {
  return words.map(word => `'${word}'`).join(', ');
}
