/** @azure/arm-resources on networks and on what Kiln only keeps: its pollers follow what the answers name. Then a server that is strict. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type GenericResource, isRestError, ResourceManagementClient } from '@azure/arm-resources';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import type { Printed } from './az.ts';
import { type Rest, restOf } from './rest.ts';
import { type Served, serve } from './served.ts';
import { GROUP, GROUP_ID, LOCATION } from './templates.ts';

const VERSION = '2024-05-01';
const at = (path: string) => `${GROUP_ID}/providers/${path}`;

interface Started {
  readonly served: Served;
  readonly rest: Rest;
  readonly client: ResourceManagementClient;
}

async function begin(...args: string[]): Promise<Started> {
  const served = await serve(['--workers', '0', ...args]);
  const rest = await restOf(served);
  const client = new ResourceManagementClient(rest.credential, LOCAL_SUBSCRIPTION, {
    endpoint: served.origin,
    tlsOptions: { ca: rest.ca },
    retryOptions: { maxRetries: 0 },
  });
  await client.resourceGroups.createOrUpdate(GROUP, { location: LOCATION });
  return { served, rest, client };
}

async function end(started: Started | undefined): Promise<void> {
  started?.rest.close();
  const outcome = await started?.served.stop();
  assert.equal(outcome?.exitCode, 0, outcome?.stderr);
}

let lax: Started;
let strict: Started;
before(async () => {
  [lax, strict] = await Promise.all([begin(), begin('--strict')]);
});
after(async () => {
  await Promise.all([end(lax), end(strict)]);
});

const put = (client: ResourceManagementClient, id: string, body: GenericResource): Promise<Printed> =>
  client.resources.createOrUpdateById(id, VERSION, body).pollUntilDone();

async function refused(work: PromiseLike<unknown>, status: number, code: string, said = /./): Promise<void> {
  await assert.rejects(Promise.resolve(work), error => {
    assert.ok(isRestError(error), String(error));
    assert.deepEqual([error.statusCode, error.code], [status, code], error.message);
    assert.match(error.message, said);
    return true;
  });
}

const NETWORK = at('Microsoft.Network/virtualNetworks/vnet');
const network = (): GenericResource => ({
  location: LOCATION,
  properties: { addressSpace: { addressPrefixes: ['10.0.0.0/16'] } },
});

for (const name of ['lax', 'strict'] as const)
  test(`networks: made, read and deleted, their subnets too (${name})`, async () => {
    const { client } = name === 'lax' ? lax : strict;
    const made = await put(client, NETWORK, network());
    assert.equal(made.properties.provisioningState, 'Succeeded');
    const subnet = await put(client, `${NETWORK}/subnets/s`, { properties: { addressPrefix: '10.0.0.0/24' } });
    assert.equal(subnet.id, `${NETWORK}/subnets/s`);
    const read: Printed = await client.resources.getById(NETWORK, VERSION);
    assert.equal(read.properties.subnets[0].properties.addressPrefix, '10.0.0.0/24');
    await refused(
      put(client, `${NETWORK}/subnets/t`, { properties: { addressPrefix: '10.1.0.0/24' } }),
      400,
      'NetcfgSubnetRangeOutsideVnet',
    );
    await client.resources.deleteById(`${NETWORK}/subnets/s`, VERSION).pollUntilDone();
    await client.resources.deleteById(NETWORK, VERSION).pollUntilDone();
    await refused(client.resources.getById(NETWORK, VERSION), 404, 'ResourceNotFound');
  });

test('what Kiln does not know is kept, listed, changed and deleted', async () => {
  const { client } = lax;
  const id = at('Microsoft.OperationalInsights/workspaces/logs');
  const made = await put(client, id, { location: LOCATION, properties: { retentionInDays: 30 } });
  assert.deepEqual([made.type, made.properties.retentionInDays], ['Microsoft.OperationalInsights/workspaces', 30]);
  const changed: Printed = await client.resources.updateById(id, VERSION, { tags: { a: 'b' } }).pollUntilDone();
  assert.deepEqual([changed.tags, changed.properties.retentionInDays], [{ a: 'b' }, 30]);
  const found: (string | undefined)[] = [];
  for await (const one of client.resources.listByResourceGroup(GROUP)) found.push(one.name);
  assert.deepEqual(found, ['logs']);
  await client.resources.deleteById(id, VERSION).pollUntilDone();
  await refused(client.resources.getById(id, VERSION), 404, 'ResourceNotFound');
});

test('a strict server refuses it, and does not offer it', async () => {
  const { client } = strict;
  const id = at('Microsoft.OperationalInsights/workspaces/logs');
  await refused(put(client, id, { location: LOCATION }), 404, 'InvalidResourceType', /Kiln does not model it/);
  const types = async (one: ResourceManagementClient) =>
    (await one.providers.get('Microsoft.OperationalInsights')).resourceTypes?.map(({ resourceType }) => resourceType);
  assert.ok(!(await types(client))?.includes('workspaces'));
  assert.ok((await types(lax.client))?.includes('workspaces'));
});
