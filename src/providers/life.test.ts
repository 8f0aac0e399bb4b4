/** What is asked for at once, of one resource or of a parent and its child, comes one after the other. On a real database. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { parseId, resourceGroupId, resourceId } from '../arm/ids.ts';
import { type Database, openDatabase, type Transacting } from '../database/connection.ts';
import { openHome } from '../home.ts';
import { galleries } from './compute/galleries.ts';
import { galleryImages } from './compute/gallery-images.ts';
import { defaultPatch, defaultPut, defaultRemove } from './default-life.ts';
import { deleteResource, putValidated } from './life.ts';
import { userAssignedIdentitiesProvider } from './managed-identity/provider.ts';
import { userAssignedIdentities } from './managed-identity/user-assigned-identities.ts';
import type { Answer, ResourceCall } from './provider.ts';
import { resourceGroups } from './resources/resource-groups.ts';
import { getResource, type Store } from './store.ts';

delete process.env.DATABASE_URL;
const S = '11111111-2222-3333-4444-555555555555';
const G = 'Lives';

let root: string;
let database: Database;
let store: Store;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-life-'));
  await chmod(root, 0o711); // PostgreSQL runs as another user when the tests run as root
  database = await openDatabase({ home: await openHome({ home: join(root, 'home'), env: {} }), log: () => undefined });
  store = database.kysely;
  await put(resourceGroups, resourceGroupId(S, G));
});
after(async () => {
  await database?.close();
  await rm(root, { recursive: true, force: true });
});

const put = (definition: Parameters<typeof putValidated>[1], id: string, properties: object = {}, trx: Store = store) =>
  putValidated(trx, definition, {
    id,
    body: { location: 'eastus', ...(Object.keys(properties).length > 0 && { properties }) },
    apiVersion: definition.apiVersions[0]!,
  });

async function gallery(name: string): Promise<string> {
  const id = resourceId(S, G, galleries.type, name);
  await put(galleries, id);
  return id;
}

const definitionId = (galleryName: string, name: string) => resourceId(S, G, galleryImages.type, galleryName, name);
const definition = (osType: string, sku = 'S') => ({
  osType,
  osState: 'Generalized',
  identifier: { publisher: 'P', offer: 'O', sku },
});

/** How each of them ended: what it gave, or the error's code. */
async function outcomes<T>(all: readonly Promise<T>[]): Promise<(T | string)[]> {
  return (await Promise.allSettled(all)).map(one => (one.status === 'fulfilled' ? one.value : one.reason.code));
}

/**
 * Does the first in a transaction, begins the second, and commits when that has ended or waits for a lock.
 * @returns how the second ended
 */
async function overtaken<T>(first: (trx: Transacting) => Promise<unknown>, second: () => Promise<T>) {
  let ended = false;
  let begun: Promise<T> | undefined;
  await store.transaction().execute(async trx => {
    await first(trx);
    begun = second();
    void begun.catch(() => undefined).then(() => (ended = true));
    const waiting = sql<{ one: number }>`select 1 as one from pg_locks where not granted limit 1`;
    while (!ended && (await waiting.execute(store)).rows.length === 0);
  });
  return (await outcomes([begun!]))[0];
}

const call = (id: string, apiVersion: string, more: Partial<ResourceCall> = {}) =>
  ({ environment: { database: store }, id: parseId(id), apiVersion, ...more }) as ResourceCall;

const patchGallery = defaultPatch({ definition: galleries });

test('of several that make one identity at once, one does, and all show the same principal', async () => {
  const id = resourceId(S, G, userAssignedIdentities.type, 'builder');
  const asked = call(id, userAssignedIdentities.apiVersions[0]!);
  const answers = await Promise.all(
    [1, 2, 3, 4].map(() => userAssignedIdentitiesProvider.put!(asked, { location: 'eastus' })),
  );
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 201]);
  const principals = new Set(answers.map(({ resource }: Answer) => resource!.properties.principalId));
  assert.equal(principals.size, 1);
  const rows = await store
    .selectFrom('principal')
    .select('object_id')
    .where('resource_id', '=', id.toLowerCase())
    .execute();
  assert.deepEqual(
    rows.map(row => row.object_id),
    [...principals],
  );
});

test('of several that make one definition at once, none changes what another one has fixed', async () => {
  await gallery('fixed');
  const id = definitionId('fixed', 'web');
  const results = await outcomes(
    ['Linux', 'Windows', 'Linux', 'Windows'].map(async osType => {
      const { resource, created } = await put(galleryImages, id, definition(osType));
      return `${created ? 'made' : 'found'} ${resource.properties.osType}`;
    }),
  );
  const { osType } = (await getResource(store, id))!.properties;
  assert.deepEqual(
    results.sort(),
    [`made ${osType}`, `found ${osType}`, 'PropertyChangeNotAllowed', 'PropertyChangeNotAllowed'].sort(),
  );
});

test('of two definitions that are made at once with one identifier, one is', async () => {
  await gallery('siblings');
  const second = await overtaken(
    trx => put(galleryImages, definitionId('siblings', 'a'), definition('Linux'), trx),
    () => put(galleryImages, definitionId('siblings', 'b'), definition('Linux')),
  );
  assert.equal(second, 'Conflict');
});

test('a parent is not deleted while a child is made', async () => {
  const id = await gallery('parent');
  const make = (trx: Store) => put(galleryImages, definitionId('parent', 'web'), definition('Linux'), trx);
  assert.equal(await overtaken(make, () => deleteResource(store, id)), 'CannotDeleteResource');
  assert.ok(await getResource(store, definitionId('parent', 'web')));
});

test('a child is not made in a parent that is deleted', async () => {
  const id = await gallery('going');
  const make = () => put(galleryImages, definitionId('going', 'web'), definition('Linux'));
  assert.equal(await overtaken(trx => deleteResource(trx, id), make), 'ParentResourceNotFound');
  assert.equal(await getResource(store, id), undefined);
});

test('a group is not deleted while something is made in it', async () => {
  const id = resourceGroupId(S, 'Filling');
  await put(resourceGroups, id);
  const make = (trx: Store) => put(galleries, resourceId(S, 'Filling', galleries.type, 'g'), {}, trx);
  assert.equal(await overtaken(make, () => deleteResource(store, id)), 'CannotDeleteResource');
});

test('two that change different parts of one resource both have their will', async () => {
  const id = await gallery('changed');
  const asked = call(id, galleries.apiVersions[0]!);
  const bodies = [{ tags: { a: 'b' } }, { properties: { description: 'd' } }];
  await Promise.all(bodies.map(body => patchGallery(asked, body)));
  const { tags, properties } = (await getResource(store, id))!;
  assert.deepEqual([tags, properties.description], [{ a: 'b' }, 'd']);
});

test('a condition is judged when the change is made, not when it is asked for', async () => {
  const id = await gallery('conditional');
  const { etag } = (await getResource(store, id))!;
  const asked = call(id, galleries.apiVersions[0]!, { conditions: { ifMatch: `"${etag}"` } });
  const change = { location: 'eastus', tags: { a: 'b' } };
  const provider = { definition: galleries };
  for (const work of [
    () => defaultPut(provider)(asked, change),
    () => patchGallery(asked, change),
    () => defaultRemove(provider)(asked),
  ])
    assert.equal(await overtaken(trx => put(galleries, id, {}, trx), work), 'PreconditionFailed');
  assert.deepEqual((await getResource(store, id))!.tags, {});
});
