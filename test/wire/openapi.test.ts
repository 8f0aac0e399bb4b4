/** The judge is judged: on small documents, and on Microsoft's own examples where the files are. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { contractOf, readDocuments, specsDirectory } from './openapi.ts';
import type { Json } from './openapi-schema.ts';

const SHARED: Json = {
  swagger: '2.0',
  info: { version: '3' },
  definitions: {
    Thing: { properties: { id: { type: 'string', readOnly: true }, name: { type: 'string' } }, required: ['name'] },
    ErrorResponse: { type: 'object', properties: { error: { properties: { code: { type: 'string' } } } } },
  },
};

const ZOO: Json = {
  swagger: '2.0',
  info: { version: '2020-01-01' },
  parameters: { Name: { name: 'name', in: 'path', required: true, type: 'string' } },
  paths: {
    '/zoo/{name}': {
      get: {
        parameters: [{ $ref: '#/parameters/Name' }],
        responses: {
          200: { schema: { $ref: '#/definitions/Cage' } },
          default: { schema: { $ref: '../../../common-types/v3/types.json#/definitions/ErrorResponse' } },
        },
      },
      put: {
        parameters: [{ name: 'body', in: 'body', schema: { $ref: '#/definitions/Cage' } }],
        responses: { 201: { schema: { $ref: '#/definitions/Cage' } }, 202: { description: 'Accepted' } },
      },
    },
    '/{scope}/keepers/{keeper}': {
      get: {
        parameters: [{ name: 'scope', in: 'path', 'x-ms-skip-url-encoding': true }],
        responses: { 200: { schema: { type: 'array', items: { type: 'integer', format: 'int32' } } } },
      },
    },
  },
  definitions: {
    Cage: {
      allOf: [{ $ref: '../../../common-types/v3/types.json#/definitions/Thing' }],
      properties: {
        animals: { type: 'array', items: { $ref: '#/definitions/Animal' } },
        opened: { type: 'string', format: 'date-time' },
        state: { type: 'string', enum: ['Open', 'Shut'], 'x-ms-enum': { modelAsString: true } },
        tags: { type: 'object', additionalProperties: { type: 'string' } },
      },
    },
    Animal: { type: 'object', discriminator: 'kind', properties: { kind: { type: 'string' } }, required: ['kind'] },
    Pet: { allOf: [{ $ref: '#/definitions/Animal' }], properties: { name: { type: 'string' } } },
    Dog: {
      'x-ms-discriminator-value': 'dog',
      allOf: [{ $ref: '#/definitions/Pet' }],
      properties: { barks: { type: 'boolean' } },
      required: ['barks'],
    },
    Cage2: { properties: { inner: { $ref: '#/definitions/Cage2' } } },
  },
};

const zoo = contractOf(
  new Map([
    ['/specs/zoo/2020-01-01/zoo.json', ZOO],
    ['/specs/arm/common-types/v3/types.json', SHARED],
  ]),
);

const answer = (body: unknown, status = 200, path = '/zoo/a?api-version=2020-01-01', method = 'GET') =>
  zoo.checkAnswer({ method, path, status, headers: {}, body });

test('a good answer passes, whatever the case of its path', () => {
  const body = {
    id: 'x',
    name: 'n',
    animals: [{ kind: 'dog', barks: true, name: 'Rex' }],
    opened: '2022-08-31T07:02:41.196184665Z',
    tags: { a: 'b' },
    state: null,
  };
  assert.deepEqual(answer(body), []);
  assert.deepEqual(answer(body, 200, '//ZOO/a/?api-version=2020-01-01&x=1'), []);
  assert.deepEqual([...zoo.covered], ['2020-01-01 GET /zoo/{name}']);
  assert.deepEqual(zoo.operations, [
    '2020-01-01 GET /zoo/{name}',
    '2020-01-01 GET /{scope}/keepers/{keeper}',
    '2020-01-01 PUT /zoo/{name}',
  ]);
});

test('wrong answers are told, each with its place', () => {
  const told = (body: unknown, pattern: RegExp, status?: number) =>
    assert.match((answer(body, status) ?? []).join('\n'), pattern);
  told({ id: 'x' }, /must have required property 'name'/);
  told({ name: 1 }, /\/name must be string/);
  told({ name: 'n', colour: 1 }, /unknown member "colour"/);
  told({ name: 'n', state: 'Ajar' }, /\/state is none of Open, Shut/);
  told({ name: 'n', opened: 'yesterday' }, /\/opened must match format/);
  told({ name: 'n', tags: { a: 1 } }, /\/tags\/a must be string/);
  told({ name: 'n', animals: [{ kind: 'cat' }] }, /\/animals\/0 .*kind/);
  told({ name: 'n', animals: [{ kind: 'dog', barks: 'loud' }] }, /\/animals\/0\/barks must be boolean/);
  told({ name: 'n', animals: [{ kind: 'dog', barks: true, meows: 1 }] }, /unknown member "meows"/);
  told(undefined, /has no body/);
  told({ name: 'n' }, /status 204 is not documented/, 204);
  told({ error: { code: 1 } }, /\/error\/code must be string/, 404);
});

test('what the provider does not answer itself has the form of Resource Manager', () => {
  const gateway = (body: unknown) =>
    zoo.checkAnswer({
      method: 'PUT',
      path: '/zoo/a?api-version=2020-01-01',
      status: 403,
      headers: { 'x-ms-failure-cause': 'gateway' },
      body,
    });
  assert.deepEqual(gateway({ error: { code: 'a', message: 'b' } }), []);
  assert.notDeepEqual(gateway({ code: 'a', message: 'b' }), []);
});

test('a status without a schema has no body', () => {
  assert.deepEqual(answer(undefined, 202, '/zoo/a?api-version=2020-01-01', 'PUT'), []);
  assert.match(answer({}, 202, '/zoo/a?api-version=2020-01-01', 'PUT')![0]!, /should have none/);
});

test('a scope has slashes, a name has none; other versions and paths are not judged', () => {
  const at = (path: string) => answer([1], 200, path);
  assert.deepEqual(at('/subscriptions/s/providers/x/y/keepers/k?api-version=2020-01-01'), []);
  assert.deepEqual(at('/keepers/k?api-version=2020-01-01'), []);
  assert.equal(at('/zoo/a/b?api-version=2020-01-01'), undefined);
  assert.equal(at('/zoo/a?api-version=2021-01-01'), undefined);
  assert.match(answer([1.5], 200, '/a/keepers/k?api-version=2020-01-01')![0]!, /\/0 must/);
});

test('requests: read-only members mean nothing, open enums take any text, unknown members only where asked', () => {
  const put = (body: unknown, closed = false) =>
    zoo.checkRequest({ method: 'PUT', path: '/zoo/a?api-version=2020-01-01', body }, { closed });
  assert.deepEqual(put({ name: 'n', id: 5, state: 'Ajar', colour: 1 }), []);
  assert.match(put({ name: 'n', colour: 1 }, true)![0]!, /unknown member "colour"/);
  assert.match(put({ name: [] })![0]!, /\/name must be string/);
});

const specs = specsDirectory();

test("Microsoft's own examples pass", { skip: 'missing' in specs && specs.missing }, () => {
  assert.ok('path' in specs);
  const contract = contractOf(readDocuments(specs.path));
  const problems: string[] = [];
  let checked = 0;
  for (const file of globSync('imagebuilder/*/imagebuilder.json', { cwd: specs.path })) {
    const document = JSON.parse(readFileSync(join(specs.path, file), 'utf8')) as Json;
    const version = basename(dirname(file));
    // The examples of the two oldest do not keep to their own file (statuses, `tags` for `artifactTags`).
    if (version < '2019-05') continue;
    for (const [template, methods] of Object.entries(document.paths as Record<string, Record<string, Json>>))
      for (const [method, operation] of Object.entries(methods))
        for (const { $ref } of Object.values((operation['x-ms-examples'] ?? {}) as Record<string, { $ref: string }>)) {
          const path = join(specs.path, dirname(file), $ref);
          if (!existsSync(path)) continue;
          const example = JSON.parse(readFileSync(path, 'utf8')) as {
            parameters: Record<string, unknown>;
            responses: Record<string, { body?: unknown }>;
          };
          const url = template.replaceAll(/\{(\w+)\}/g, (_, name) => String(example.parameters[name]));
          for (const [status, { body }] of Object.entries(example.responses)) {
            const exchange = { method: method.toUpperCase(), path: `${url}?api-version=${version}`, headers: {} };
            const found = contract.checkAnswer({ ...exchange, status: Number(status), body });
            assert.ok(found, `${version} ${method} ${url} is not found`);
            checked++;
            problems.push(...found.map(problem => `${$ref}: ${problem}`));
          }
        }
  }
  assert.ok(checked > 100, `${checked} were checked`);
  assert.deepEqual(problems, []);
});
