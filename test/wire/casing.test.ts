/** Ids, names and locations in every casing and encoding, for every type of the registry: one resource, however it is written. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { READER } from '../../src/arm/role-ids.ts';
import type { JsonObject } from '../../src/arm/shape.ts';
import type { ResourceProvider } from '../../src/providers/provider.ts';
import { EXTENSIONS, PROVIDERS } from '../../src/providers/registry.ts';
import { putResource } from '../../src/providers/store.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround } from './ground.ts';
import { ended, makeSample, sampleId, sampleOf, versionOf } from './samples.ts';

let server: TestServer;
let ground: Ground;
before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'Casing');
});
after(() => server?.close());

/** How one request writes a path: the case of each letter, letters as %XX, slashes twice, one at the end. Repeated over the length of the path. */
interface Hand {
  readonly upper: readonly boolean[];
  readonly encoded: readonly boolean[];
  readonly doubled: boolean;
  readonly trailing: boolean;
}

const hands: fc.Arbitrary<Hand> = fc.record({
  upper: fc.array(fc.boolean(), { minLength: 5, maxLength: 23 }),
  encoded: fc.array(
    fc.integer({ min: 0, max: 9 }).map(one => one === 0),
    { minLength: 7, maxLength: 19 },
  ),
  doubled: fc.boolean(),
  trailing: fc.boolean(),
});

const at = <T>(list: readonly T[], index: number): T => list[index % list.length]!;

const recased = (text: string, { upper }: Pick<Hand, 'upper'>): string =>
  [...text].map((letter, index) => (at(upper, index) ? letter.toUpperCase() : letter.toLowerCase())).join('');

function written(path: string, hand: Hand): string {
  const text = [...recased(path, hand)]
    .map((letter, index) =>
      /[a-z]/i.test(letter) && at(hand.encoded, index)
        ? `%${letter.charCodeAt(0).toString(16)[at(hand.upper, index) ? 'toUpperCase' : 'toLowerCase']()}`
        : letter,
    )
    .join('');
  const slashed = hand.doubled ? text.replace(/\/(?=[^/]+$)/, '//') : text;
  return hand.trailing ? `${slashed}/` : slashed;
}

const idOf = (body: unknown): string => (body as { id: string }).id;

async function list(path: string, apiVersion: string): Promise<string[]> {
  const answer = await server.request('GET', path, { apiVersion });
  assert.equal(answer.status, 200, `${path}: ${answer.text}`);
  return (answer.body as { value: { id: string }[] }).value.map(({ id }) => id);
}

describe('every type', () => {
  for (const provider of PROVIDERS) {
    const { definition } = provider;
    const { type, parent } = definition;
    test(`${type} is one resource in any hand`, async () => {
      const { body, writable, stored, always } = sampleOf(provider);
      const apiVersion = versionOf(provider);
      if (stored) return await isReadInAnyHand(provider, stored);
      if (!writable || !body) {
        if (parent !== undefined) await makeSample(server, ground, parent);
        const id = sampleId(ground.group, type);
        await fc.assert(
          fc.asyncProperty(hands, async hand => {
            const answer = await server.request('GET', written(id, hand), { apiVersion });
            assert.equal(answer.status, 404, answer.text);
            assert.equal((answer.body as { error: { code: string } }).error.code, 'ResourceNotFound', answer.text);
          }),
          { numRuns: 5 },
        );
        return;
      }
      if (parent !== undefined) await makeSample(server, ground, parent);
      const id = sampleId(ground.group, type);
      if (always) {
        await fc.assert(
          fc.asyncProperty(hands, hands, async (one, another) => {
            for (const [method, hand] of [
              ['GET', one],
              ['PUT', another],
            ] as const) {
              const options = { apiVersion, ...(method === 'PUT' && { body: body(ground) }) };
              const answer = await server.request(method, written(id, hand), options);
              assert.equal(answer.status, 200, answer.text);
              assert.equal(idOf(answer.body).toLowerCase(), id.toLowerCase());
            }
          }),
          { numRuns: 5 },
        );
        return;
      }
      const collection = id.slice(0, id.lastIndexOf('/'));
      // What is recased is all but a name that has to be in lower case.
      const lowerOnly = definition.checkName('UPPER1') !== undefined && definition.checkName('upper1') === undefined;
      await fc.assert(
        fc.asyncProperty(
          fc.array(hands, { minLength: 8, maxLength: 8 }),
          fc.constantFrom('westus', 'West US', 'WESTUS', 'WestUs', 'west us'),
          async (each, location) => {
            const [putting, getting, again, patching, listing, heading, deleting, looking] = each as [
              Hand,
              Hand,
              Hand,
              Hand,
              Hand,
              Hand,
              Hand,
              Hand,
            ];
            const wanted = (hand: Hand) =>
              lowerOnly
                ? `${written(collection, { ...hand, trailing: false })}/${id.split('/').at(-1)}`
                : written(id, hand);
            const sent = { ...body(ground), ...(definition.kind === 'tracked' && { location }) };
            const made = await server.request('PUT', wanted(putting), { apiVersion, body: sent });
            assert.ok([200, 201, 202].includes(made.status), `${made.status} ${made.text}`);
            await ended(server, made);

            const got = await server.request('GET', written(id, getting), { apiVersion });
            assert.equal(got.status, 200, got.text);
            assert.equal(idOf(got.body).toLowerCase(), id.toLowerCase());
            const shown = idOf(got.body);
            if (definition.kind === 'tracked') assert.equal((got.body as { location: string }).location, 'westus');

            if (definition.refuseUpdate === undefined) {
              const same = await server.request('PUT', wanted(again), { apiVersion, body: sent });
              assert.ok([200, 201, 202].includes(same.status), `${same.status} ${same.text}`);
              await ended(server, same);
            }
            const seen = await server.request('GET', id, { apiVersion });
            assert.equal(idOf(seen.body), shown, 'It is shown as it was made.');

            if (definition.kind === 'tracked') {
              const patched = await server.request('PATCH', written(id, patching), {
                apiVersion,
                body: { tags: { Hand: 'any' } },
              });
              assert.ok([200, 201, 202].includes(patched.status), `${patched.status} ${patched.text}`);
              await ended(server, patched);
              const { tags } = (await server.request('GET', id, { apiVersion })).body as { tags: object };
              assert.deepEqual(tags, { Hand: 'any' });
            }

            const same = (one: string) => one.toLowerCase() === id.toLowerCase();
            assert.deepEqual((await list(written(collection, listing), apiVersion)).filter(same), [shown]);
            if (parent === undefined) {
              const everywhere = `/subscriptions/${SUBSCRIPTION}/providers/${type}`;
              assert.deepEqual((await list(written(everywhere, listing), apiVersion)).filter(same), [shown]);
            }
            const head = await server.request('HEAD', written(id, heading), { apiVersion });
            assert.ok([200, 204].includes(head.status), `HEAD: ${head.status}`);

            const gone = await server.request('DELETE', written(id, deleting), { apiVersion });
            assert.ok([200, 202, 204].includes(gone.status), `${gone.status} ${gone.text}`);
            await ended(server, gone);
            assert.equal((await server.request('GET', written(id, looking), { apiVersion })).status, 404);
            assert.deepEqual((await list(collection, apiVersion)).filter(same), []);
          },
        ),
        { numRuns: 3, endOnFailure: true },
      );
    });
  }
});

async function isReadInAnyHand({ definition }: ResourceProvider, properties: object): Promise<void> {
  const { type, parent } = definition;
  if (parent !== undefined) await makeSample(server, ground, parent);
  const id = sampleId(ground.group, type);
  const apiVersion = versionOf({ definition });
  await putResource(server.service.database.kysely, {
    ...{ id, location: 'westus', tags: {}, apiVersion },
    properties: properties as JsonObject,
  });
  const collection = id.slice(0, id.lastIndexOf('/'));
  await fc.assert(
    fc.asyncProperty(hands, hands, hands, async (getting, heading, listing) => {
      const got = await server.request('GET', written(id, getting), { apiVersion });
      assert.equal(got.status, 200, got.text);
      assert.equal(idOf(got.body), id);
      assert.equal((await server.request('HEAD', written(id, heading), { apiVersion })).status, 204);
      assert.deepEqual(await list(written(collection, listing), apiVersion), [id]);
    }),
    { numRuns: 5 },
  );
}

test('extensions are found in any hand', async () => {
  const id = `${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
  await fc.assert(
    fc.asyncProperty(hands, fc.constantFrom(...EXTENSIONS), async (hand, { namespace, type, apiVersions }) => {
      // Classic administrators are a subscription's, runs a template's.
      if (namespace !== 'Microsoft.Authorization') return;
      const path = written(`${id}/providers/${namespace}/${type}`, hand);
      const answer = await server.request('GET', path, { apiVersion: apiVersions[0]! });
      assert.equal(answer.status, 200, `${path}: ${answer.text}`);
    }),
    { numRuns: 30 },
  );
});

test('a role holds on its scope, however either is written', async () => {
  const id = await makeSample(server, ground, 'Microsoft.Compute/galleries/images');
  const outside = `${ground.group}2`;
  await server.request('PUT', outside, { apiVersion: '2021-04-01', body: { location: 'westus' } });
  const scopes = [`/subscriptions/${SUBSCRIPTION}`, ground.group, id.slice(0, id.lastIndexOf('/images/')), id];
  await fc.assert(
    fc.asyncProperty(hands, hands, hands, fc.constantFrom(...scopes), async (giving, using, taking, scope) => {
      const someone = await server.principal('someone');
      const read = async (path: string) =>
        (await server.request('GET', path, { apiVersion: '2023-07-03', token: someone.token })).status;
      assert.equal(await read(written(id, using)), 403);
      const name = randomUUID();
      const assignment = `${scope}/providers/Microsoft.Authorization/roleAssignments/${name}`;
      const given = await server.request('PUT', written(assignment, giving), {
        apiVersion: '2022-04-01',
        body: {
          properties: {
            roleDefinitionId: recased(`${scope}/providers/Microsoft.Authorization/roleDefinitions/${READER}`, giving),
            principalId: recased(someone.objectId, giving),
            principalType: recased('ServicePrincipal', giving),
          },
        },
      });
      assert.equal(given.status, 201, given.text);
      assert.equal(await read(written(id, using)), 200);
      assert.equal(
        await read(`${outside}/providers/Microsoft.Compute/galleries/none`),
        scope === scopes[0] ? 404 : 403,
        'A group whose name only begins alike is another.',
      );
      const taken = await server.request('DELETE', written(assignment, taking), { apiVersion: '2022-04-01' });
      assert.equal(taken.status, 200, taken.text);
      for (let tries = 0; (await read(written(id, using))) !== 403; tries += 1) assert.ok(tries < 200);
    }),
    { numRuns: 12 },
  );
});

test('an api-version and the names of parameters have no case', async () => {
  const type = 'providers/Microsoft.ManagedIdentity/userAssignedIdentities';
  for (const query of [
    'api-version=2023-07-31-PREVIEW',
    'API-Version=2023-01-31',
    'api-version=2023-01-31&$TOP=1',
    'Api-Version=2023-01-31&%24top=1',
  ]) {
    const answer = await server.request('GET', `${ground.group}/${type}?${query}`);
    assert.equal(answer.status, 200, `${query}: ${answer.text}`);
    if (/top/i.test(query)) assert.equal((answer.body as { value: unknown[] }).value.length, 1, query);
  }
});

test('nothing that was answered breaks the contract', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
