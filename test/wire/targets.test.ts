/** Where images go, over HTTP: what is refused when a template is made or changed, not after its build. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';
import { storeManagedImage } from './images-store.ts';

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers
type Wire = any;

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'targets');
});
after(() => server?.close());

const imageId = (name: string) => `${ground.group}/providers/Microsoft.Compute/images/${name}`;
const image = (name: string, more: object = {}) => ({
  ...{ type: 'ManagedImage', runOutputName: name, imageId: imageId(name), location: 'westus', ...more },
});

const put = async (name: string, properties: object) => {
  const whole = plainTemplate(ground) as Wire;
  const body = { ...whole, properties: { ...whole.properties, ...properties } };
  return await server.request('PUT', ground.template(name), { apiVersion: NEWEST, body });
};
const patch = (name: string, properties: object) =>
  server.request('PATCH', ground.template(name), { apiVersion: NEWEST, body: { properties } });
const shown = async (name: string) =>
  ((await server.request('GET', ground.template(name), { apiVersion: NEWEST })).body as Wire).properties;
const ended = async (answer: Awaited<ReturnType<typeof put>>) => {
  assert.ok(answer.status === 201 || answer.status === 202, answer.text);
  return (await server.settled(answer)).body as Wire;
};
const run = async (name: string) => {
  await server.settled(await server.request('POST', `${ground.template(name)}/run`, { apiVersion: NEWEST }));
  return (await shown(name)).lastRunStatus;
};

test('an image that is elsewhere is no target: not of a template, not of a change, not of a run', async () => {
  const elsewhere = /^The resource 'far' already exists in location 'eastus' in resource group 'targets'/;
  assert.equal((await ended(await put('before', { distribute: [image('far')] }))).status, 'Succeeded');
  assert.equal((await ended(await put('changed', { distribute: [image('near')] }))).status, 'Succeeded');
  await storeManagedImage(server.service, { id: imageId('far'), location: 'eastus' });

  assert.equal((await ended(await put('made', { distribute: [image('far')] }))).status, 'Failed');
  assert.match((await shown('made')).provisioningError.message, elsewhere);
  const changed = await ended(await patch('changed', { distribute: [image('near'), image('far')] }));
  assert.deepEqual([changed.status, changed.error.code], ['Failed', 'InvalidResourceLocation']);
  assert.match(changed.error.message, elsewhere);

  const { runState, message } = await run('before');
  assert.equal(runState, 'Failed');
  assert.match(message, /The resource 'far' already exists in location 'eastus'/);
  const phases = await server.service.database.kysely.selectFrom('phase').select('kind').execute();
  assert.deepEqual(phases, [], 'nothing was built');
});

test('an image has 50 tags, one of which is the run’s', async () => {
  const artifactTags = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`t${index}`, '']));
  const most = await ended(await put('tags', { distribute: [image('tags', { artifactTags: artifactTags(49) })] }));
  assert.equal(most.status, 'Succeeded');
  const more = await ended(await patch('tags', { distribute: [image('tags', { artifactTags: artifactTags(50) })] }));
  assert.deepEqual([more.status, more.error.message], ['Failed', 'A resource can have 50 tags, not 51.']);
});

test('an id with a slash at its end is the same image, published and built on', async () => {
  const target = image('slash', { imageId: `${imageId('slash')}/` });
  assert.equal((await ended(await put('slash', { distribute: [target] }))).status, 'Succeeded');
  assert.equal((await run('slash')).runState, 'Succeeded');
  const built = await server.request('GET', imageId('slash'), { apiVersion: '2024-03-01' });
  assert.equal((built.body as Wire).id, imageId('slash'), built.text);
  for (const end of ['', '/']) {
    const name = `on-slash${end.length}`;
    const source = { type: 'ManagedImage', imageId: `${imageId('slash')}${end}` };
    assert.equal((await ended(await put(name, { source, distribute: [image(name)] }))).status, 'Succeeded');
    assert.equal((await run(name)).runState, 'Succeeded');
  }
});
