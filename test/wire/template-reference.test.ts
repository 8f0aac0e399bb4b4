/** The list of properties that the template reference is made of, held against Microsoft's OpenAPI file of each api-version, where the files are. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isSince } from '../../src/arm/api-versions.ts';
import { IMAGE_BUILDER_API_VERSIONS } from '../../src/providers/image-builder/api-versions.ts';
import { templateProperties } from '../../src/providers/image-builder/reference/properties.ts';
import { specsDirectory } from './openapi.ts';
import type { Json } from './openapi-schema.ts';

/** Resource Manager's own members: they stand in files that all providers share, and are the same in every version. */
const ENVELOPE = new Set([
  ...['id', 'name', 'type', 'location', 'tags', 'systemData'],
  // Of ARM templates, not of the API.
  ...['apiVersion', 'dependsOn', 'comments'],
]);

/** What Microsoft's file has and Kiln has not, with the reason. */
const UNKNOWN_HERE: readonly [apiVersion: string, path: RegExp, because: string][] = [
  ['2019-05-01-preview', /^properties\.source\(ISO\)/, 'taken away in 2020-02-14, with the images that it named'],
];

const specs = specsDirectory();

for (const apiVersion of IMAGE_BUILDER_API_VERSIONS) {
  const file = 'path' in specs ? join(specs.path, 'imagebuilder', apiVersion, 'imagebuilder.json') : '';
  const skip = 'missing' in specs ? specs.missing : existsSync(file) ? false : `${file} is not there.`;
  test(`the properties of ${apiVersion} are those of Microsoft's file`, { skip }, () => {
    const document = JSON.parse(readFileSync(file, 'utf8')) as { definitions: Record<string, Json> };
    const theirs = pathsOf(document.definitions).filter(
      path => !UNKNOWN_HERE.some(([version, pattern]) => version === apiVersion && pattern.test(path)),
    );
    const ours = templateProperties().filter(({ path, since }) => isSince(apiVersion, since) && !ENVELOPE.has(path));
    // What is only shown is one thing here: its parts are made elsewhere.
    const leaves = ours.filter(({ readOnly }) => readOnly).map(({ path }) => `${path}.`);
    const wanted = theirs.filter(path => !leaves.some(leaf => path.startsWith(leaf)));
    assert.ok(wanted.length > 50, `${wanted.length} properties`);
    assert.deepEqual(ours.map(({ path }) => path).sort(), [...wanted].sort());
  });
}

/** All paths of a template, in the words of properties.ts. */
function pathsOf(definitions: Readonly<Record<string, Json>>): string[] {
  const at = (reference: string): Json => definitions[reference.replace('#/definitions/', '')] ?? {};
  const resolved = (schema: Json): Json => (typeof schema.$ref === 'string' ? at(schema.$ref) : schema);
  /** With what it inherits; types of other files are envelopes. */
  const propertiesOf = (schema: Json): Record<string, Json> => ({
    ...Object.fromEntries(
      ((schema.allOf ?? []) as Json[]).flatMap(parent => Object.entries(propertiesOf(resolved(parent)))),
    ),
    ...(schema.properties as Record<string, Json> | undefined),
  });
  const subtypesOf = (base: Json): [word: string, schema: Json][] =>
    Object.entries(definitions)
      .filter(([, one]) => ((one.allOf ?? []) as Json[]).some(parent => resolved(parent) === base))
      .map(([name, one]) => [String(one['x-ms-discriminator-value'] ?? name), one]);
  const walk = (given: Json, path: string): string[] => {
    const schema = resolved(given);
    if (schema.discriminator !== undefined)
      return subtypesOf(schema).flatMap(([word, one]) => members(one, `${path}(${word})`));
    if (schema.items) return walk(schema.items as Json, `${path}[]`);
    const each = schema.additionalProperties;
    if (typeof each === 'object' && each !== null) return walk(each as Json, `${path}.*`);
    return members(schema, path);
  };
  const members = (schema: Json, path: string): string[] =>
    Object.entries(propertiesOf(schema)).flatMap(([name, one]) => {
      const here = path === '' ? name : `${path}.${name}`;
      return ENVELOPE.has(here) ? [] : [here, ...walk(one, here)];
    });
  return members(definitions.ImageTemplate!, '');
}
