/** Image templates in virtual networks: who may name a subnet, what has to be there, and what is said where it is not (contract 1.3, 2.5, 3.2). */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';

const NETWORK = '2024-01-01';
const OTHER = '00000000-0000-4000-8000-000000000002';
const SUBSCRIPTION_ID = `/subscriptions/${SUBSCRIPTION}`;
/** Beside the ground's group: the template's identity has a role there only where a test gives it one. */
const GROUP = `${SUBSCRIPTION_ID}/resourceGroups/nets`;
const vnet = (name: string) => `${GROUP}/providers/Microsoft.Network/virtualNetworks/${name}`;
const VNET = vnet('vnet');
const subnet = (name: string, network = VNET) => `${network}/subnets/${name}`;

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers; what is not as expected fails where it is looked at.
type Json = any;

let server: TestServer;
let ground: Ground;
/** Another identity of the ground, which nobody gave a role on the networks. */
let stranger: string;

async function answers(status: number, method: string, path: string, body?: unknown, apiVersion = NETWORK) {
  const answer = await server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer;
}

async function assign(principalId: string, role: string, scope: string): Promise<void> {
  const properties = {
    roleDefinitionId: `${SUBSCRIPTION_ID}/providers/Microsoft.Authorization/roleDefinitions/${role}`,
    principalId,
    principalType: 'ServicePrincipal',
  };
  const path = `${scope}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`;
  await answers(201, 'PUT', path, { properties }, '2022-04-01');
}

const identityOf = async (id: string): Promise<Json> => (await answers(200, 'GET', id, undefined, '2023-01-31')).body;

before(async () => {
  server = await startTestServer({ subscriptions: [OTHER] });
  ground = await makeGround(server, 'Vnets');
  await answers(201, 'PUT', GROUP, { location: 'westus' }, '2021-04-01');
  const aci = [{ name: 'aci', properties: { serviceName: 'microsoft.containerinstance/containergroups' } }];
  const web = [{ name: 'web', properties: { serviceName: 'Microsoft.Web/serverFarms' } }];
  const off = { privateLinkServiceNetworkPolicies: 'Disabled' };
  const body = (location: string) => ({
    location,
    properties: {
      addressSpace: { addressPrefixes: ['10.0.0.0/16'] },
      subnets: [
        { name: 'default', properties: { addressPrefix: '10.0.0.0/24' } },
        { name: 'build', properties: { addressPrefix: '10.0.1.0/24', ...off } },
        { name: 'aci', properties: { addressPrefix: '10.0.2.0/24', delegations: aci } },
        { name: 'web', properties: { addressPrefix: '10.0.3.0/24', delegations: web } },
        { name: 'leaving', properties: { addressPrefix: '10.0.4.0/24', ...off } },
      ],
    },
  });
  await answers(201, 'PUT', VNET, body('westus'));
  await answers(201, 'PUT', vnet('east'), body('eastus'));
  const builder = await identityOf(ground.identityId);
  await assign(builder.properties.principalId, CONTRIBUTOR, GROUP);
  stranger = `${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/stranger`;
  const made = await answers(201, 'PUT', stranger, { location: 'westus' }, '2023-01-31');
  await assign((made.body as Json).properties.principalId, CONTRIBUTOR, ground.group);
});
after(() => server?.close());

function template(vnetConfig: object, identity = ground.identityId): object {
  const plain = plainTemplate(ground) as { properties: object };
  return {
    ...plain,
    identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } },
    properties: { ...plain.properties, vmProfile: { vnetConfig } },
  };
}

const put = (name: string, vnetConfig: object, more: { identity?: string; token?: string } = {}) =>
  server.request('PUT', ground.template(name), {
    apiVersion: NEWEST,
    body: template(vnetConfig, more.identity),
    ...(more.token !== undefined && { token: more.token }),
  });

/** How the creation ended, and what the template keeps of it. */
async function provisioned(answer: Answer, name: string): Promise<{ operation: Json; properties: Json }> {
  assert.equal(answer.status, 201, answer.text);
  const { body } = await server.settled(answer);
  const shown = await answers(200, 'GET', ground.template(name), undefined, NEWEST);
  return { operation: body, properties: (shown.body as Json).properties };
}

test('what the form of the template says already', async () => {
  const cases: [vnetConfig: object, message: RegExp][] = [
    [
      { containerInstanceSubnetId: subnet('aci') },
      /'containerInstanceSubnetId' may be specified only if 'subnetId' is also specified/,
    ],
    [
      { subnetId: subnet('build'), containerInstanceSubnetId: subnet('aci', vnet('east')) },
      /'containerInstanceSubnetId' must be on the same Virtual Network as 'subnetId'/,
    ],
    [
      { subnetId: subnet('aci'), containerInstanceSubnetId: subnet('ACI') },
      /'containerInstanceSubnetId' must be another subnet than 'subnetId'/,
    ],
    [
      { subnetId: subnet('build'), containerInstanceSubnetId: subnet('aci'), proxyVmSize: 'Standard_A1_v2' },
      /'proxyVmSize' must not be specified if 'containerInstanceSubnetId' is specified/,
    ],
    [{ subnetId: VNET }, /Field 'subnetId' has a bad value/],
  ];
  for (const [vnetConfig, message] of cases) {
    const answer = await put('malformed', vnetConfig);
    assert.equal(answer.status, 400, answer.text);
    const { error } = answer.body as Json;
    assert.equal(error.code, 'ValidationFailed');
    assert.match(error.message, message);
  }
  await answers(404, 'GET', ground.template('malformed'), undefined, NEWEST);
});

test('who names a subnet has to be allowed to join it', async () => {
  // The join of a subnet is nothing that a reader may; on one network a role is enough.
  const cases: [name: string, role: string, scope: string, allowed: boolean][] = [
    ['nobody', READER, ground.group, false],
    ['reader', READER, SUBSCRIPTION_ID, false],
    ['contributor', CONTRIBUTOR, VNET, true],
    ['elsewhere', CONTRIBUTOR, vnet('east'), false],
  ];
  for (const [name, role, scope, allowed] of cases) {
    const caller = await server.principal(name, { id: role, scope });
    await assign(caller.objectId, CONTRIBUTOR, ground.group);
    const answer = await put(`by-${name}`, { subnetId: subnet('build') }, { token: caller.token });
    if (allowed) {
      assert.equal((await provisioned(answer, `by-${name}`)).operation.status, 'Succeeded');
      continue;
    }
    assert.equal(answer.status, 403, `${name}: ${answer.text}`);
    const { error } = answer.body as Json;
    assert.equal(error.code, 'LinkedAuthorizationFailed');
    assert.equal(
      error.message,
      `The client '${caller.clientId}' with object id '${caller.objectId}' has permission to perform action 'Microsoft.VirtualMachineImages/imageTemplates/write' on scope '${ground.template(`by-${name}`)}'; however, it does not have permission to perform action 'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope(s) '${subnet('build')}' or the linked scope(s) are invalid.`,
    );
    await answers(404, 'GET', ground.template(`by-${name}`), undefined, NEWEST);
  }
});

test('what is there, and what is said where it is not', async () => {
  const away = `/subscriptions/${OTHER}/resourceGroups/nets/providers/Microsoft.Network/virtualNetworks/vnet/subnets/build`;
  await assign((await identityOf(ground.identityId)).properties.principalId, CONTRIBUTOR, `/subscriptions/${OTHER}`);
  const cases: [
    name: string,
    vnetConfig: object,
    code: string | undefined,
    message?: string | RegExp,
    identity?: string,
  ][] = [
    ['classic', { subnetId: subnet('build'), proxyVmSize: 'Standard_A1_v2' }, undefined],
    ['casing', { subnetId: subnet('BUILD').toUpperCase().replace('/SUBSCRIPTIONS', '/subscriptions') }, undefined],
    ['isolated', { subnetId: subnet('default'), containerInstanceSubnetId: subnet('aci') }, undefined],
    [
      'stranger',
      { subnetId: subnet('build') },
      'Unauthorized',
      `Not authorized to access the resource: ${VNET}. Please check the user assigned identity has the correct permissions. For more details, go to https://aka.ms/azvmimagebuilderts.`,
      'stranger',
    ],
    [
      'policies',
      { subnetId: subnet('default') },
      'PrivateLinkServiceCannotBeCreatedInSubnetThatHasNetworkPoliciesEnabled',
      `Private link service cannot be created in a subnet ${subnet('default')} since it has private link service network policies enabled.`,
    ],
    [
      'delegated',
      { subnetId: subnet('web') },
      'ValidationFailed',
      /is delegated to 'Microsoft\.Web\/serverFarms': no virtual machine can be in it/,
    ],
    [
      'undelegated',
      { subnetId: subnet('build'), containerInstanceSubnetId: subnet('default') },
      'SubnetMissingRequiredDelegation',
      /^Subnet missing required delegation 'Microsoft\.ContainerInstance'/,
    ],
    [
      'misdelegated',
      { subnetId: subnet('build'), containerInstanceSubnetId: subnet('web') },
      'SubnetMissingRequiredDelegation',
      /subnets\/web' has to be delegated to 'Microsoft\.ContainerInstance\/containerGroups'/,
    ],
    [
      'no-subnet',
      { subnetId: subnet('nobody') },
      'ResourceNotFound',
      /^The Resource 'Microsoft\.Network\/virtualNetworks\/vnet\/subnets\/nobody' under resource group 'nets' was not found\./,
    ],
    [
      'no-network',
      { subnetId: subnet('s', vnet('nobody')) },
      'ResourceNotFound',
      /^The Resource 'Microsoft\.Network\/virtualNetworks\/nobody' under resource group 'nets' was not found\./,
    ],
    [
      'no-containers',
      { subnetId: subnet('build'), containerInstanceSubnetId: subnet('nobody') },
      'ResourceNotFound',
      /subnets\/nobody'/,
    ],
    [
      'region',
      { subnetId: subnet('build', vnet('east')) },
      'ValidationFailed',
      /is in location 'eastus', but the image template is in 'westus'\.$/,
    ],
    ['subscription', { subnetId: away }, 'ValidationFailed', /is in another subscription than the image template\.$/],
  ];
  for (const [name, vnetConfig, code, message, identity] of cases) {
    const answer = await put(`is-${name}`, vnetConfig, identity === undefined ? {} : { identity: stranger });
    const { operation, properties } = await provisioned(answer, `is-${name}`);
    if (code === undefined) {
      assert.equal(operation.status, 'Succeeded', `${name}: ${JSON.stringify(operation)}`);
      assert.deepEqual(properties.vmProfile.vnetConfig.subnetId, (vnetConfig as Json).subnetId);
      continue;
    }
    assert.equal(operation.status, 'Failed', name);
    assert.equal(operation.error.code, code, `${name}: ${operation.error.message}`);
    if (typeof message === 'string') assert.equal(operation.error.message, message);
    else assert.match(operation.error.message, message!);
    assert.equal(properties.provisioningState, 'Failed');
    assert.deepEqual(properties.provisioningError, {
      provisioningErrorCode: 'Other',
      message: operation.error.message,
    });
  }
});

test('a subnet that a template builds in stays, and so do its network and its place in it', async () => {
  const name = 'is-staying';
  const { operation } = await provisioned(await put(name, { subnetId: subnet('leaving').toLowerCase() }), name);
  assert.equal(operation.status, 'Succeeded');
  const at = subnet('leaving');
  const inUse = `Subnet leaving is in use by ${ground.template(name)} and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.`;
  const whole = (await answers(200, 'GET', VNET)).body as Json;
  const without = whole.properties.subnets.filter((one: Json) => one.name !== 'leaving');
  for (const [method, path, body] of [
    ['DELETE', at, undefined],
    ['PUT', VNET, { ...whole, properties: { ...whole.properties, subnets: without } }],
  ] as const) {
    const { error } = (await answers(400, method, path, body)).body as Json;
    assert.equal(error.code, 'InUseSubnetCannotBeDeleted');
    assert.equal(error.message, inUse);
  }
  assert.equal(((await answers(400, 'DELETE', VNET)).body as Json).error.code, 'InUseSubnetCannotBeDeleted');
  await answers(200, 'GET', at);
  // One whose creation failed uses nothing.
  await provisioned(await put('is-gone', { subnetId: subnet('web') }), 'is-gone');
  await server.settled(await answers(202, 'DELETE', subnet('web')));
  // Another subnet, by a change of the template, lets the first one go.
  const patched = await server.request('PATCH', ground.template(name), {
    apiVersion: NEWEST,
    body: { properties: { vmProfile: { vnetConfig: { subnetId: subnet('build') } } } },
  });
  assert.equal(((await server.settled(patched)).body as Json).status, 'Succeeded', patched.text);
  await server.settled(await answers(202, 'DELETE', at));
  // And what is not fit is refused there, too; the template stays as it was.
  const refused = await server.request('PATCH', ground.template(name), {
    apiVersion: NEWEST,
    body: { properties: { vmProfile: { vnetConfig: { subnetId: at } } } },
  });
  const { status, error } = (await server.settled(refused)).body as Json;
  assert.deepEqual([status, error.code], ['Failed', 'ResourceNotFound']);
  const kept = (await answers(200, 'GET', ground.template(name), undefined, NEWEST)).body as Json;
  assert.equal(kept.properties.vmProfile.vnetConfig.subnetId, subnet('build'));
});

test('a group whose subnet or security group is used from outside stays', async () => {
  const group = `${SUBSCRIPTION_ID}/resourceGroups/lent`;
  await answers(201, 'PUT', group, { location: 'westus' }, '2021-04-01');
  const security = `${group}/providers/Microsoft.Network/networkSecurityGroups/nsg`;
  const network = `${group}/providers/Microsoft.Network/virtualNetworks/v`;
  await answers(201, 'PUT', security, { location: 'westus' });
  const properties = { addressPrefix: '10.0.5.0/24', networkSecurityGroup: { id: security } };
  await answers(201, 'PUT', subnet('borrower'), { properties });
  const deletion = () => server.request('DELETE', group, { apiVersion: '2021-04-01' });
  const held = async (by: string, what: string) => {
    const { status, body } = await deletion();
    assert.equal(status, 409);
    assert.equal(
      (body as Json).error.message,
      `The resource group 'lent' cannot be deleted: ${by} uses ${what.toLowerCase()}.`,
    );
  };
  await held(subnet('borrower'), security);
  await server.settled(await answers(202, 'DELETE', subnet('borrower')));
  await answers(201, 'PUT', network, {
    location: 'westus',
    properties: {
      addressSpace: { addressPrefixes: ['10.0.0.0/16'] },
      subnets: [
        {
          name: 's',
          properties: {
            ...{ addressPrefix: '10.0.0.0/24', privateLinkServiceNetworkPolicies: 'Disabled' },
            networkSecurityGroup: { id: security },
          },
        },
      ],
    },
  });
  await assign((await identityOf(ground.identityId)).properties.principalId, CONTRIBUTOR, group);
  const made = await provisioned(await put('is-lent', { subnetId: `${network}/subnets/s` }), 'is-lent');
  assert.equal(made.operation.status, 'Succeeded', JSON.stringify(made.operation));
  await held(ground.template('is-lent'), `${network}/subnets/s`);
  await server.settled(await answers(202, 'DELETE', ground.template('is-lent'), undefined, NEWEST));
  // What is used from inside only goes with the group.
  assert.equal((await deletion()).status, 202);
});

test('a build asks again, and says what the network is to it', async () => {
  const name = 'is-built';
  await provisioned(await put(name, { subnetId: subnet('build') }), name);
  const policy = async (value: string) => {
    const properties = { addressPrefix: '10.0.1.0/24', privateLinkServiceNetworkPolicies: value };
    await answers(200, 'PUT', subnet('build'), { properties });
  };
  const run = async () => {
    const started = await server.request('POST', `${ground.template(name)}/run`, { apiVersion: NEWEST });
    assert.equal(started.status, 202, started.text);
    return (await server.settled(started)).body as Json;
  };
  await policy('Enabled');
  const failed = await run();
  assert.equal(failed.status, 'Failed');
  const shown = (await answers(200, 'GET', ground.template(name), undefined, NEWEST)).body as Json;
  assert.match(shown.properties.lastRunStatus.message, /has private link service network policies enabled/);
  await policy('Disabled');
  const built = await run();
  assert.equal(built.status, 'Succeeded', JSON.stringify(built));
  const lines = await server.service.database.kysely
    .selectFrom('log_line')
    .select('text')
    .where('run_id', '=', String(built.name).toLowerCase())
    .execute();
  assert.ok(
    lines.some(({ text }) => /vnetConfig was checked, but nothing is put into the virtual network/.test(text)),
    lines.map(({ text }) => text).join('\n'),
  );
});

test('everything was as the OpenAPI files have it', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
