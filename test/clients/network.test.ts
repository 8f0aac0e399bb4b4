/**
 * The unmodified Azure CLI on networks and on what Kiln only keeps, by `az resource` and `az rest`: in 2.45 every `az network` command fails before it sends
 * anything (its own bug; network-az.test.ts has those of 2.74).
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Az, azOf, type Printed } from './az.ts';
import { layGround } from './az-ground.ts';
import { type Served, serve } from './served.ts';
import { GROUP, GROUP_ID, LOCATION, managedImage, templateFile, templateId } from './templates.ts';

const NETWORK = 'Microsoft.Network/virtualNetworks';
const VERSION = '2024-05-01';
const at = (path: string) => `${GROUP_ID}/providers/${path}`;

describe('az, networks', () => {
  let served: Served;
  let az: Az;
  const resource = (...args: string[]): Promise<Printed> => az.json('resource', ...args);
  const rest = (method: string, path: string, body?: unknown): Promise<Printed> =>
    az.json(
      ...['rest', '--method', method, '--url', `${path}?api-version=${VERSION}`],
      ...(body === undefined ? [] : ['--body', JSON.stringify(body)]),
    );
  before(async () => {
    served = await serve(['--workers', '0']);
    az = azOf(served);
    await layGround(az);
  });
  after(async () => {
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  test('a network, subnets in it, and a template that builds there', async () => {
    const properties = {
      addressSpace: { addressPrefixes: ['10.0.0.0/16'] },
      subnets: [{ name: 'default', properties: { addressPrefix: '10.0.0.0/24' } }],
    };
    const made = await resource(
      ...['create', '-g', GROUP, '--resource-type', NETWORK, '-n', 'vnet', '-l', LOCATION],
      ...['--properties', JSON.stringify(properties)],
    );
    assert.equal(made.properties.provisioningState, 'Succeeded');
    assert.equal(made.properties.subnets[0].id, `${at(NETWORK)}/vnet/subnets/default`);
    const subnet = `${at(NETWORK)}/vnet/subnets/build`;
    const build = { addressPrefix: '10.0.1.0/24', privateLinkServiceNetworkPolicies: 'Disabled' };
    await resource(...['create', '--id', subnet, '--properties', JSON.stringify(build), '--api-version', VERSION]);
    const shown = await resource('show', '--ids', `${at(NETWORK)}/vnet`);
    assert.deepEqual(
      shown.properties.subnets.map((one: Printed) => one.name),
      ['build', 'default'],
    );
    await az.fails(
      1,
      /\(NetcfgSubnetRangesOverlap\) Subnet 'twice' is not valid because its IP address range overlaps/,
      ...['resource', 'create', '--id', `${at(NETWORK)}/vnet/subnets/twice`, '--api-version', VERSION],
      ...['--properties', JSON.stringify({ addressPrefix: '10.0.1.0/25' })],
    );

    const withSubnet = (subnetId: string) => {
      const whole = templateFile({ distribute: [managedImage('web')] });
      return { ...whole, properties: { ...whole.properties, vmProfile: { vnetConfig: { subnetId } } } };
    };
    const create = async (name: string, subnetId: string): Promise<string[]> => {
      const file = await az.file(withSubnet(subnetId));
      return ['image', 'builder', 'create', '-g', GROUP, '-n', name, '--image-template', file];
    };
    await az.fails(
      1,
      /has private link service network policies enabled/,
      ...(await create('refused', `${at(NETWORK)}/vnet/subnets/default`)),
    );
    assert.equal((await az.json(...(await create('web', subnet)))).provisioningState, 'Succeeded');
    // `az resource delete` keeps the server's sentence to itself; `az rest` shows it.
    await az.fails(
      1,
      new RegExp(`InUseSubnetCannotBeDeleted.*Subnet build is in use by ${templateId('web')} and cannot be deleted`),
      ...['rest', '--method', 'delete', '--url', `${subnet}?api-version=${VERSION}`],
    );
    await az.json('image', 'builder', 'delete', '-g', GROUP, '-n', 'web');
    await az.json('resource', 'delete', '--ids', subnet, '--api-version', VERSION);
    await az.fails(3, /ResourceNotFound/, 'resource', 'show', '--ids', subnet, '--api-version', VERSION);
  });

  test('a security group, by az rest', async () => {
    const group = at('Microsoft.Network/networkSecurityGroups/nsg');
    const rule = {
      ...{ protocol: 'Tcp', access: 'Allow', direction: 'Inbound', priority: 100, destinationPortRange: '22' },
      ...{ sourceAddressPrefix: '*', sourcePortRange: '*', destinationAddressPrefix: '*' },
    };
    const body = { location: LOCATION, properties: { securityRules: [{ name: 'ssh', properties: rule }] } };
    assert.equal((await rest('put', group, body)).properties.securityRules[0].properties.priority, 100);
    assert.equal((await rest('get', `${group}/securityRules/ssh`)).name, 'ssh');
    await rest('delete', group);
    const { exitCode, stderr } = await az.run('rest', '--method', 'get', '--url', `${group}?api-version=${VERSION}`);
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /ResourceNotFound/);
  });

  test('what Kiln does not know: created, shown, tagged, listed, deleted; no action does anything', async () => {
    const type = 'Microsoft.Network/publicIPAddresses';
    const named = ['-g', GROUP, '--resource-type', type, '-n', 'ip'];
    const made = await resource(
      ...['create', ...named, '-l', LOCATION, '--properties', JSON.stringify({ publicIPAllocationMethod: 'Static' })],
    );
    assert.equal(made.properties.publicIPAllocationMethod, 'Static');
    assert.equal(made.properties.provisioningState, 'Succeeded');
    assert.deepEqual((await resource('tag', ...named, '--tags', 'a=b')).tags, { a: 'b' });
    assert.deepEqual((await resource('show', ...named)).tags, { a: 'b' });
    const listed = await resource('list', '-g', GROUP, '--resource-type', type);
    assert.deepEqual(
      listed.map((one: Printed) => one.name),
      ['ip'],
    );
    await az.fails(
      1,
      /The action 'start' is not supported for 'Microsoft\.Network\/publicIPAddresses'/,
      'resource',
      'invoke-action',
      ...named,
      '--action',
      'start',
    );
    await resource('delete', ...named);
    await az.fails(3, /ResourceNotFound/, 'resource', 'show', ...named);
  });
});
