/**
 * An image template as a file that a person wrote: the JSON of one resource, with `<placeholders>` for `--set` and local paths to scripts. What it
 * means is the provider's affair; this file knows how it is written.
 */
import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { KilnError } from '../arm/errors.ts';
import type { JsonPath } from '../arm/json-path.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import { decodeText, type Position, readJsonText } from './json-text.ts';

export interface TemplateFile {
  /** Absolute. */
  readonly path: string;
  /** The resource, placeholders filled, local paths made into `file:` URLs. Not validated. */
  readonly body: JsonObject;
  /** Its `name`; else that of the file, or of the directory for files called template.json and the like. */
  readonly name: string;
  readonly apiVersion?: string;
  /** Names of the placeholders that were filled. */
  readonly placeholders: readonly string[];
  /** Where a JSON path of a violation stands in the file, or its nearest ancestor. */
  locate(path: string): Position;
}

export interface TemplateFileOptions {
  /** `--set name=value`: what `<name>` stands for. */
  readonly set?: Readonly<Record<string, string>>;
}

const PLACEHOLDER = /<([A-Za-z][A-Za-z0-9_-]*)>/g;
const TYPES = ['microsoft.virtualmachineimages/imagetemplates', 'microsoft.virtualmachineimages'];

/** Reads a template file. Errors: TemplateUnreadable, InvalidRequestContent, UsageError (placeholders). */
export async function readTemplateFile(path: string, options: TemplateFileOptions = {}): Promise<TemplateFile> {
  const absolute = resolve(path);
  let bytes: Buffer;
  try {
    bytes = await readFile(absolute);
  } catch (cause) {
    throw unreadable(path, cause as NodeJS.ErrnoException);
  }
  if (extname(path).toLowerCase() === '.bicep')
    throw new KilnError(
      'InvalidRequestContent',
      `${path} is Bicep; \`kiln build\` takes the JSON of one image template.`,
      {
        target: path,
        hint: 'Compile it with `bicep build`, and put the imageTemplates resource of the result in a file of its own.',
      },
    );
  return parseTemplateFile(decodeText(bytes, path), { ...options, path });
}

/** The same for text that was read already; `path` names it in errors and is what relative paths are relative to. */
export function parseTemplateFile(
  text: string,
  options: TemplateFileOptions & { readonly path: string },
): TemplateFile {
  const { path: file, set = {} } = options;
  const used = new Set<string>();
  const unfilled = new Map<string, JsonPath>();
  const rewrite = (string: string, at: JsonPath): string =>
    string.replace(PLACEHOLDER, (whole, name: string) => {
      if (Object.hasOwn(set, name)) {
        used.add(name);
        return set[name]!;
      }
      if (!at.includes('inline') && !unfilled.has(name)) unfilled.set(name, at);
      return whole;
    });
  const json = readJsonText(text, file, { rewrite });
  const body = recognise(json.value, file, path => json.locate(path));
  checkPlaceholders(
    file,
    set,
    used,
    [...unfilled].map(([name, at]) => ({ name, ...json.locate(at) })),
  );
  resolveLocalPaths(body, dirname(resolve(file)));
  return {
    path: resolve(file),
    body,
    name: nameOf(body, resolve(file)),
    ...(typeof body.apiVersion === 'string' && { apiVersion: body.apiVersion }),
    placeholders: [...used].sort(),
    locate: path => json.locate(path),
  };
}

/** Tells an image template from the other JSON that people have lying next to it. */
function recognise(value: unknown, file: string, locate: (path: JsonPath) => Position): JsonObject {
  const refuse = (path: JsonPath, sentence: string, hint: string): KilnError => {
    const { line, column } = locate(path);
    return new KilnError('InvalidRequestContent', `${file}:${line}:${column}: ${sentence}`, {
      target: `${file}:${line}:${column}`,
      hint,
    });
  };
  if (!isObject(value))
    throw refuse([], 'an image template is an object: { … }', 'Begin with the JSON of an imageTemplates resource.');
  const schema = typeof value.$schema === 'string' ? value.$schema : '';
  if (/deploymentTemplate/i.test(schema) || 'resources' in value)
    throw refuse(
      ['resources'],
      'this is an ARM deployment template (it has a list of resources), not one image template',
      'Put the imageTemplates resource in a file of its own, with its parameters and variables filled in.',
    );
  if (/deploymentParameters/i.test(schema))
    throw refuse(
      [],
      'this is a parameter file of a deployment, not an image template',
      'Give the image template itself.',
    );
  const { type } = value;
  if (type !== undefined && !(typeof type === 'string' && TYPES.includes(type.toLowerCase())))
    throw refuse(
      ['type'],
      `the type is ${JSON.stringify(type)}; \`kiln build\` takes Microsoft.VirtualMachineImages/imageTemplates`,
      'Give the file of an image template.',
    );
  if (!isObject(value.properties))
    throw refuse(
      ['properties'],
      "this object has no 'properties', so it is no image template",
      'An image template has location, identity and properties.',
    );
  return value;
}

function checkPlaceholders(
  file: string,
  set: Readonly<Record<string, string>>,
  used: ReadonlySet<string>,
  unfilled: readonly ({ name: string } & Position)[],
): void {
  if (unfilled.length > 0) {
    const list = unfilled.map(({ name, line }) => `<${name}> (line ${line})`).join(', ');
    throw new KilnError('UsageError', `${file} has placeholders that nothing fills: ${list}.`, {
      target: `${file}:${unfilled[0]!.line}:${unfilled[0]!.column}`,
      hint: `Add ${unfilled.map(({ name }) => `--set ${name}=VALUE`).join(' ')}`,
    });
  }
  const unknown = Object.keys(set).filter(name => !used.has(name));
  if (unknown.length > 0)
    throw new KilnError(
      'UsageError',
      `${file} has no placeholder ${unknown.map(name => `<${name}>`).join(', ')} for --set.`,
      {
        target: file,
        hint:
          used.size > 0
            ? `It has ${[...used].map(name => `<${name}>`).join(', ')}.`
            : 'It has none at all: leave --set out.',
      },
    );
}

/** Local paths, relative to the template, become absolute `file:` URLs. Only here: the API takes no paths of its own host. */
function resolveLocalPaths(body: JsonObject, directory: string): void {
  const properties = body.properties as JsonObject;
  const validate = isObject(properties.validate) ? properties.validate.inVMValidations : undefined;
  const workload = isObject(properties.optimize) ? properties.optimize.workload : undefined;
  for (const step of [listOf(properties.customize), listOf(validate), [workload]].flat())
    if (isObject(step))
      for (const field of ['scriptUri', 'sourceUri']) {
        const url = localUrl(step[field], directory);
        if (url !== undefined) step[field] = url;
      }
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** A drive letter is no scheme. */
function localUrl(value: unknown, directory: string): string | undefined {
  if (typeof value !== 'string' || value === '' || value.includes('\0') || /^[a-z][a-z0-9+.-]+:/i.test(value))
    return undefined;
  return pathToFileURL(resolve(directory, value)).href;
}

const FILES_WITHOUT_NAME = new Set(['template', 'imagetemplate', 'image-template', 'main', 'index', 'azuredeploy']);

function nameOf(body: JsonObject, file: string): string {
  if (typeof body.name === 'string' && body.name !== '') return body.name;
  const stem = basename(file).replace(/(\.template)?\.(jsonc?|json5)$/i, '');
  const given = FILES_WITHOUT_NAME.has(stem.toLowerCase()) ? basename(dirname(file)) : stem;
  const name = given
    .replace(/[^A-Za-z0-9\-_.]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 64);
  return name === '' ? 'template' : name;
}

function unreadable(path: string, cause: NodeJS.ErrnoException): KilnError {
  const reasons: Record<string, string> = {
    ENOENT: 'there is no such file',
    EISDIR: 'it is a directory; name the template file in it',
    EACCES: 'permission denied',
    EPERM: 'permission denied',
  };
  return new KilnError('TemplateUnreadable', `${path} cannot be read: ${reasons[cause.code ?? ''] ?? cause.message}.`, {
    target: path,
    cause,
  });
}

/** A violation's sentence with the place in the file: `template.json:12:5: …`. */
export function placed(file: TemplateFile, shown: string, path: string, sentence: string): string {
  const { line, column } = file.locate(path);
  return `${shown}:${line}:${column}: ${sentence}`;
}
