/**
 * Microsoft's OpenAPI files as a judge of answers: which statuses an operation has in an api-version, and what their bodies look like. The files are read from
 * where they lie (KILN_SPECS, or ../shared/specs beside the checkout); none are part of the project.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { ROOT } from '../kiln.ts';
import { type Direction, type Json, jsonSchema, type Resolver, type SchemaOptions } from './openapi-schema.ts';

export interface Exchange {
  readonly method: string;
  /** Path and query, as requested. */
  readonly path: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Parsed; undefined for none. */
  readonly body: unknown;
}

export interface Contract {
  /** What is wrong with an answer; undefined where no file has the operation in that api-version. */
  checkAnswer(exchange: Exchange): readonly string[] | undefined;
  /** What is wrong with the body of a request. `closed`: unknown members, too. */
  checkRequest(
    request: Pick<Exchange, 'method' | 'path' | 'body'>,
    options?: { readonly closed?: boolean },
  ): readonly string[] | undefined;
  /** All operations: `2022-02-14 GET /subscriptions/{subscriptionId}/…`. */
  readonly operations: readonly string[];
  /** Those of which an answer was checked so far. */
  readonly covered: ReadonlySet<string>;
}

/** Documents by absolute path. */
export type Documents = ReadonlyMap<string, Json>;

interface Operation {
  readonly name: string;
  readonly file: string;
  readonly pattern: RegExp;
  /** Fewer are more exact. */
  readonly parameters: number;
  readonly definition: Json;
}

/** The directory of the files, or why there is none. */
export function specsDirectory(): { readonly path: string } | { readonly missing: string } {
  const path = process.env.KILN_SPECS ?? join(ROOT, '../shared/specs');
  return existsSync(path) ? { path } : { missing: `Microsoft's OpenAPI files are not at ${path} (KILN_SPECS).` };
}

/** Reads all files below a directory, examples left out. */
export function readDocuments(directory: string): Documents {
  const files = globSync('**/*.json', { cwd: directory, exclude: name => basename(String(name)) === 'examples' });
  const documents = files.map((file): [string, Json] => [
    resolve(directory, file),
    JSON.parse(readFileSync(join(directory, file), 'utf8')) as Json,
  ]);
  return new Map(documents.filter(([, document]) => document.swagger === '2.0'));
}

/** Puts the judge together. Throws where a document is not understood. */
export function contractOf(documents: Documents): Contract {
  const resolver = resolverOf(documents);
  const operations = index(documents, resolver);
  const validators = new Map<string, ValidateFunction>();
  const covered = new Set<string>();

  const find = (method: string, path: string) => {
    const plain = path
      .split('?')[0]!
      .replaceAll(/\/{2,}/g, '/')
      .replace(/\/$/, '');
    const key = `${versionOf(path)} ${method.toLowerCase()}`;
    return operations.get(key)?.find(({ pattern }) => pattern.test(plain));
  };
  const validate = (operation: Operation, what: string, schema: Json, options: SchemaOptions, body: unknown) => {
    const key = `${operation.file} ${operation.name} ${what} ${options.closed}`;
    let validator = validators.get(key);
    if (!validator) {
      validator = compile(jsonSchema({ file: operation.file, schema }, resolver, options));
      validators.set(key, validator);
    }
    return validator(withoutNulls(body)) ? [] : (validator.errors ?? []).map(sentence);
  };

  return {
    operations: [...operations].flatMap(([key, list]) => list.map(({ name }) => `${key.split(' ')[0]} ${name}`)),
    covered,
    checkAnswer({ method, path, status, headers, body }) {
      const operation = find(method, path);
      if (!operation) return undefined;
      const name = `${versionOf(path)} ${operation.name}`;
      covered.add(name);
      const responses = operation.definition.responses as Record<string, Json>;
      // What Resource Manager itself refuses, it refuses in its own words, whatever the provider's are (recorded: template_file, 403).
      const gateway = status >= 400 && headers['x-ms-failure-cause'] === 'gateway';
      const response = gateway ? GATEWAY : (responses[status] ?? (status >= 400 ? responses.default : undefined));
      if (!response) return [`${name}: the status ${status} is not documented`];
      const schema = response.schema as Json | undefined;
      if (schema === undefined || method === 'HEAD')
        return body === undefined || body === '' ? [] : [`${name}: ${status} has a body, and should have none`];
      if (body === undefined || body === '') return [`${name}: ${status} has no body`];
      const options = { direction: 'response' as Direction, closed: true };
      return validate(operation, gateway ? 'gateway' : String(status), schema, options, body)
        .filter(problem => !(status >= 400 && HINT.test(problem)))
        .map(problem => `${name}: ${status} ${problem}`);
    },
    checkRequest({ method, path, body }, { closed = false } = {}) {
      const operation = find(method, path);
      if (!operation) return undefined;
      const parameters = ((operation.definition.parameters ?? []) as Json[]).map(parameter =>
        typeof parameter.$ref === 'string' ? resolver.resolve(parameter.$ref, operation.file).schema : parameter,
      );
      const parameter = parameters.find(one => one.in === 'body');
      if (!parameter) return undefined;
      return validate(operation, 'request', parameter.schema as Json, { direction: 'request', closed }, body);
    },
  };
}

function versionOf(path: string): string {
  return new URLSearchParams(path.split('?')[1] ?? '').get('api-version')?.toLowerCase() ?? '';
}

/** Kiln's hint is a member that clients print and Microsoft's schemas before common-types do not name. */
const HINT = /unknown member "additionalInfo"/;

const GATEWAY: Json = {
  schema: {
    type: 'object',
    required: ['error'],
    properties: {
      error: {
        type: 'object',
        required: ['code', 'message'],
        properties: { code: { type: 'string' }, message: { type: 'string' }, target: { type: 'string' } },
        additionalProperties: true,
      },
    },
  },
};

/** Resource Manager's operations on a resource of any type say nothing of its shape, and hide that of its own type. */
const ANY_RESOURCE = /^\/\{[^/]+\}$|\{resourceProviderNamespace\}\/\{parentResourcePath\}/;

function index(documents: Documents, resolver: Resolver): Map<string, Operation[]> {
  const found = new Map<string, Operation[]>();
  for (const [file, document] of documents) {
    const version = String((document.info as Json | undefined)?.version ?? '').toLowerCase();
    for (const [template, methods] of Object.entries((document.paths ?? {}) as Record<string, Record<string, Json>>))
      for (const [method, definition] of Object.entries(methods)) {
        if (!('responses' in definition) || ANY_RESOURCE.test(template)) continue;
        const key = `${version} ${method}`;
        const list = found.get(key) ?? [];
        list.push({
          name: `${method.toUpperCase()} ${template}`,
          file,
          pattern: patternOf(template, file, [definition, methods as Json], resolver),
          parameters: template.split('{').length - 1,
          definition,
        });
        found.set(key, list);
      }
  }
  for (const list of found.values()) list.sort((a, b) => a.parameters - b.parameters);
  return found;
}

/** A parameter is one segment, unless it says that its slashes stay (`{scope}`). */
function patternOf(template: string, file: string, holders: readonly Json[], resolver: Resolver): RegExp {
  const parameters = holders
    .flatMap(holder => (Array.isArray(holder.parameters) ? (holder.parameters as Json[]) : []))
    .map(one => (typeof one.$ref === 'string' ? resolver.resolve(one.$ref, file).schema : one));
  const long = (name: string) =>
    parameters.some(parameter => parameter.name === name && parameter['x-ms-skip-url-encoding'] === true);
  const text = template
    .replace(/\/$/, '')
    .split(/(\{[^}]+\})/)
    .map(part => {
      if (!part.startsWith('{')) return part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
      return long(part.slice(1, -1)) ? '.*?' : '[^/]+';
    })
    .join('');
  return new RegExp(`^${text.replaceAll('/.*?', '(?:/.*?)?')}$`, 'i');
}

function resolverOf(documents: Documents): Resolver {
  return {
    resolve(reference, from) {
      const [target = '', pointer = ''] = reference.split('#');
      const file = target === '' ? from : locate(target, from, documents);
      if (file === undefined) return { file: from, schema: {}, key: target };
      let value: unknown = documents.get(file);
      for (const segment of pointer.split('/').slice(1))
        value = (value as Json | undefined)?.[decodeURIComponent(segment).replaceAll('~1', '/').replaceAll('~0', '~')];
      if (typeof value !== 'object' || value === null) throw new Error(`${from} refers to ${reference}: nothing there`);
      return { file, schema: value as Json, key: `${file}#${pointer}` };
    },
    definitions: file => (documents.get(file)?.definitions ?? {}) as Record<string, Json>,
  };
}

/**
 * Where files were moved from their places, the rest of the path still tells them: `common-types/resource-management/v3/types.json`. Of Network's thirty files,
 * which refer to each other, only those of what Kiln serves are there: what the others describe may be anything (undefined).
 */
function locate(reference: string, from: string, documents: Documents): string | undefined {
  const exact = resolve(dirname(from), reference);
  if (documents.has(exact)) return exact;
  const tail = reference.replace(/^(\.\.?\/)+/, '');
  const moved = [...documents.keys()].find(file => file.endsWith(`/${tail}`));
  if (moved === undefined && from.includes('/Microsoft.Network/')) return undefined;
  if (moved === undefined) throw new Error(`${from} refers to ${reference}, which is not among the files`);
  return moved;
}

function compile(schema: Json): ValidateFunction {
  const ajv = new Ajv({ allErrors: true, discriminator: true, strict: false, unicodeRegExp: false });
  for (const format of ['uri', 'url', 'arm-id', 'password', 'byte', 'binary', 'float', 'double', 'decimal', 'char'])
    ajv.addFormat(format, true);
  ajv.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i);
  ajv.addFormat('date', /^\d{4}-\d\d-\d\d$/);
  ajv.addFormat('duration', /^P/);
  // Any number of fractional digits: the real service writes nanoseconds.
  ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);
  ajv.addFormat('date-time-rfc1123', /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/);
  ajv.addFormat('unixtime', { type: 'number', validate: Number.isInteger });
  ajv.addFormat('int32', { type: 'number', validate: value => Number.isInteger(value) && Math.abs(value) < 2 ** 31 });
  ajv.addFormat('int64', { type: 'number', validate: Number.isInteger });
  return ajv.compile(schema);
}

function sentence({ instancePath, keyword, params, message }: ErrorObject): string {
  const where = instancePath === '' ? 'the body' : instancePath;
  if (keyword === 'additionalProperties') return `${where} has the unknown member "${params.additionalProperty}"`;
  if (keyword === 'enum') return `${where} is none of ${(params.allowedValues as unknown[]).join(', ')}`;
  return `${where} ${message}`;
}

/** The real service writes null for what is absent (`versioning`, recorded in 2023); swagger 2.0 has no word for it. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== null)
      .map(([name, member]) => [name, withoutNulls(member)]),
  );
}
