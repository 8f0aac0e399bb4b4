/** Virtual networks, subnets and network security groups over HTTPS, each answer judged by Microsoft's OpenAPI files of its api-version. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Answer, SUBSCRIPTION as S, startTestServer, type TestServer } from '../server.ts';

const VERSION = '2024-01-01';
const GROUP = `/subscriptions/${S}/resourceGroups/net`;
const NETWORK = `${GROUP}/providers/Microsoft.Network/virtualNetworks`;
const SECURITY = `${GROUP}/providers/Microsoft.Network/networkSecurityGroups`;

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers; what is not as expected fails where it is looked at.
type Json = any;

let server: TestServer;
before(async () => {
  server = await startTestServer();
  await answers(201, 'PUT', GROUP, { location: 'westus2' }, '2021-04-01');
});
after(() => server?.close());

async function answers(status: number, method: string, path: string, body?: unknown, apiVersion = VERSION) {
  const answer = await server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer;
}

async function refused(status: number, code: string, message: RegExp, method: string, path: string, body?: unknown) {
  const answer = await answers(status, method, path, body);
  const { error } = answer.body as { error: { code: string; message: string } };
  assert.equal(error.code, code, answer.text);
  assert.match(error.message, message);
}

/** Made or deleted, and the operation that the answer names has succeeded. */
async function done(answer: Answer): Promise<Json> {
  const last = await server.settled(answer);
  assert.equal(last.status, 200);
  assert.equal((last.body as Json).status, 'Succeeded', last.text);
  return answer.body as Json;
}

const network = (prefixes: string[], subnets?: unknown[], location = 'westus2') => ({
  location,
  properties: { addressSpace: { addressPrefixes: prefixes }, ...(subnets && { subnets }) },
});
const subnet = (name: string, addressPrefix: string, more: object = {}) => ({
  name,
  properties: { addressPrefix, ...more },
});
const names = (answer: Answer) => (answer.body as Json).properties.subnets.map((one: Json) => one.name);

test('a network and its subnets always agree, whichever way they are written', async () => {
  const made = await done(
    await answers(
      201,
      'PUT',
      `${NETWORK}/vnet1`,
      network(['10.0.0.0/16', 'fd00:10::/48'], [subnet('sn1', '10.0.0.0/24')]),
    ),
  );
  assert.match(made.etag, /^W\/"[0-9a-f-]{36}"$/);
  assert.equal(made.properties.provisioningState, 'Succeeded');
  assert.match(made.properties.resourceGuid, /^[0-9a-f-]{36}$/);
  assert.deepEqual(made.properties.addressSpace, { addressPrefixes: ['10.0.0.0/16', 'fd00:10::/48'] });
  const [first] = made.properties.subnets;
  assert.equal(first.id, `${NETWORK}/vnet1/subnets/sn1`);
  assert.equal(first.properties.privateLinkServiceNetworkPolicies, 'Enabled');
  assert.equal(first.properties.privateEndpointNetworkPolicies, 'Disabled');

  const alone = await answers(200, 'GET', `${NETWORK.toUpperCase()}/VNET1/SUBNETS/SN1`);
  assert.equal(alone.headers.etag, first.etag);
  assert.deepEqual((alone.body as Json).properties, first.properties);

  const delegations = [{ name: 'aci', properties: { serviceName: 'Microsoft.ContainerInstance/containerGroups' } }];
  const second = await done(
    await answers(201, 'PUT', `${NETWORK}/vnet1/subnets/sn2`, subnet('ignored', '10.0.1.0/24', { delegations })),
  );
  assert.equal(second.name, 'sn2');
  assert.equal(second.properties.delegations[0].id, `${NETWORK}/vnet1/subnets/sn2/delegations/aci`);
  assert.equal(second.properties.delegations[0].properties.serviceName, 'Microsoft.ContainerInstance/containerGroups');
  const shown = await answers(200, 'GET', `${NETWORK}/vnet1`);
  assert.deepEqual(names(shown), ['sn1', 'sn2']);
  assert.deepEqual((shown.body as Json).properties.subnets[1].properties, second.properties);
  assert.notEqual(shown.headers.etag, made.etag, "the network's etag speaks for its subnets");
  assert.equal(shown.headers.etag, (shown.body as Json).etag);

  // As az writes a change back: what it read, with one property more.
  const whole = shown.body as Json;
  whole.properties.subnets[0].properties.privateLinkServiceNetworkPolicies = 'Disabled';
  const changed = await done(await answers(200, 'PUT', `${NETWORK}/vnet1`, whole));
  assert.equal(changed.properties.resourceGuid, made.properties.resourceGuid);
  const [one, two] = changed.properties.subnets;
  assert.equal(one.properties.privateLinkServiceNetworkPolicies, 'Disabled');
  assert.notEqual(one.etag, first.etag);
  assert.equal(two.etag, second.etag, 'what does not change keeps its etag');
  assert.deepEqual(two.properties, second.properties);

  // A network that says nothing of its subnets keeps them; one with an empty list has none.
  assert.deepEqual(names(await answers(200, 'PUT', `${NETWORK}/vnet1`, network(['10.0.0.0/16']))), ['sn1', 'sn2']);
  const listed = await answers(200, 'GET', `${NETWORK}/vnet1/subnets`);
  assert.deepEqual(
    (listed.body as Json).value.map((item: Json) => item.name),
    ['sn1', 'sn2'],
  );
  const gone = await answers(202, 'DELETE', `${NETWORK}/vnet1/subnets/sn2`);
  assert.match(
    String(gone.headers.location),
    /\/providers\/Microsoft\.Network\/locations\/westus2\/operations\/[0-9a-f-]{36}\?/,
  );
  await done(gone);
  await answers(204, 'DELETE', `${NETWORK}/vnet1/subnets/sn2`);
  assert.deepEqual(names(await answers(200, 'GET', `${NETWORK}/vnet1`)), ['sn1']);
  assert.deepEqual(names(await answers(200, 'PUT', `${NETWORK}/vnet1`, network(['10.0.0.0/16'], []))), []);
  await answers(404, 'GET', `${NETWORK}/vnet1/subnets/sn1`);
});

test('lists of networks, tags, conditions, the end', async () => {
  await answers(201, 'PUT', `${NETWORK}/listed`, network(['10.9.0.0/16'], [subnet('a', '10.9.0.0/24')]));
  await answers(201, 'PUT', `${NETWORK}/other`, network(['10.9.0.0/16'], [subnet('b', '10.9.0.0/24')]));
  for (const scope of [GROUP, `/subscriptions/${S}`]) {
    const { value } = (await answers(200, 'GET', `${scope}/providers/Microsoft.Network/virtualNetworks`)).body as Json;
    const found = value.filter((one: Json) => /listed|other/.test(one.name));
    assert.deepEqual(
      found.map((one: Json) => one.properties.subnets.map((item: Json) => item.name)),
      [['a'], ['b']],
    );
  }
  const tagged = await answers(200, 'PATCH', `${NETWORK}/listed`, { tags: { team: 'images' } });
  assert.deepEqual((tagged.body as Json).tags, { team: 'images' });
  assert.deepEqual(names(tagged), ['a']);
  await refused(400, 'InvalidRequestFormat', /PATCH changes tags/, 'PATCH', `${NETWORK}/listed`, { properties: {} });
  const { etag } = tagged.headers;
  const conditional = (ifMatch: string) =>
    server.request('PUT', `${NETWORK}/listed`, {
      apiVersion: VERSION,
      body: network(['10.9.0.0/16']),
      headers: { 'if-match': ifMatch },
    });
  assert.equal((await conditional('W/"00000000-0000-4000-8000-000000000000"')).status, 412);
  assert.equal((await conditional(String(etag))).status, 200);
  await refused(409, 'InvalidResourceLocation', /already exists in location 'westus2'/, 'PUT', `${NETWORK}/listed`, {
    ...network(['10.9.0.0/16'], undefined, 'eastus'),
  });
  await done(await answers(202, 'DELETE', `${NETWORK}/listed`));
  await answers(404, 'GET', `${NETWORK}/listed/subnets/a`);
  await answers(204, 'DELETE', `${NETWORK}/listed`);
});

test('defaults of an older api-version', async () => {
  const path = `${NETWORK}/old`;
  const made = await answers(201, 'PUT', path, network(['10.0.0.0/16'], [subnet('s', '10.0.0.0/24')]), '2021-08-01');
  assert.equal((made.body as Json).properties.subnets[0].properties.privateEndpointNetworkPolicies, 'Enabled');
});

test('addresses: what is no range, lies outside, overlaps, or is too small', async () => {
  const at = `${NETWORK}/addresses`;
  const put = (body: unknown, code: string, message: RegExp, path = at) =>
    refused(400, code, message, 'PUT', path, body);
  await put(
    network(['10.0.0/16']),
    'InvalidAddressPrefixFormat',
    /^Address prefix 10\.0\.0\/16 of resource .*addresses is not formatted correctly/,
  );
  await put(network(['10.0.0.1/16']), 'InvalidCIDRNotation', /the address prefix should be 10\.0\.0\.0\/16\.$/);
  await put(network([]), 'InvalidRequestFormat', /addressPrefixes/);
  await put({ location: 'westus2', properties: {} }, 'InvalidRequestFormat', /addressSpace' is missing/);
  await put(network(['10.0.0.0/16', '10.0.128.0/17']), 'NetcfgInvalidVirtualNetworkSite', /overlap/);
  await put(network(['169.254.0.0/24']), 'NetcfgInvalidIPAddressPrefix', /169\.254\.0\.0\/24/);
  const inside = (...subnets: unknown[]) => network(['10.0.0.0/16', 'fd00::/48'], subnets);
  await put(
    inside(subnet('a', '10.1.0.0/24')),
    'NetcfgSubnetRangeOutsideVnet',
    /^Subnet 'a' is not valid because its IP address range is outside the IP address range of virtual network 'addresses'\.$/,
  );
  await put(
    inside(subnet('a', '10.0.0.0/24'), subnet('b', '10.0.0.128/25')),
    'NetcfgSubnetRangesOverlap',
    /^Subnet 'b' is not valid because its IP address range overlaps with that of an existing subnet in virtual network 'addresses'\.$/,
  );
  await put(
    inside(subnet('a', '10.0.0.0/30')),
    'NetcfgInvalidSubnet',
    /^Subnet 'a' is not valid in virtual network 'addresses'\.$/,
  );
  await put(inside(subnet('a', 'fd00::/56')), 'NetcfgInvalidSubnet', /'a'/);
  await put(
    inside(subnet('a', '10.0.0.0/24'), subnet('A', '10.0.1.0/24')),
    'InvalidRequestFormat',
    /two with the name 'A'/,
  );
  await put(
    inside({ name: 'a' }),
    'AddressPrefixStringCannotBeNullOrEmpty',
    /addresses\/subnets\/a cannot be null or empty/,
  );
  await put(inside(subnet('a b', '10.0.0.0/24')), 'InvalidResourceName', /^Resource name a b is invalid\./);
  await put(
    inside(subnet('a', '10.0.0.0/24', { privateLinkServiceNetworkPolicies: 'Off' })),
    'InvalidRequestFormat',
    /privateLinkServiceNetworkPolicies/,
  );
  await put(network(['10.0.0.0/16']), 'InvalidResourceName', /begin with a word character/, `${NETWORK}/-x`);
  await answers(404, 'GET', at);

  await answers(
    201,
    'PUT',
    at,
    inside(subnet('a', '10.0.0.0/24'), { name: 'six', properties: { addressPrefixes: ['10.0.2.0/24', 'fd00::/64'] } }),
  );
  const child = `${at}/subnets/b`;
  await put(subnet('b', '10.0.0.0/25'), 'NetcfgSubnetRangesOverlap', /'b'/, child);
  await put(subnet('b', 'fd00::/64'), 'NetcfgSubnetRangesOverlap', /'b'/, child);
  await put(subnet('b', '10.2.0.0/24'), 'NetcfgSubnetRangeOutsideVnet', /'b'/, child);
  await put({ properties: {} }, 'AddressPrefixStringCannotBeNullOrEmpty', /subnets\/b/, child);
  // A network cannot shrink under its subnets.
  await put(network(['10.1.0.0/16']), 'NetcfgSubnetRangeOutsideVnet', /'a'/);
  assert.deepEqual(names(await answers(200, 'GET', at)), ['a', 'six']);
  await refused(
    404,
    'ParentResourceNotFound',
    /'nowhere' not found/,
    'PUT',
    `${NETWORK}/nowhere/subnets/a`,
    subnet('a', '10.0.0.0/24'),
  );
  // Two subnets may change places in one request.
  await answers(200, 'PUT', at, inside(subnet('a', '10.0.2.0/24'), subnet('six', '10.0.0.0/24')));
});

const rule = (name: string, more: object = {}) => ({
  name,
  properties: {
    protocol: 'tcp',
    access: 'allow',
    direction: 'inbound',
    priority: 100,
    sourceAddressPrefix: '*',
    sourcePortRange: '*',
    destinationAddressPrefix: 'VirtualNetwork',
    destinationPortRange: '22',
    ...more,
  },
});

test('security groups and their rules', async () => {
  const at = `${SECURITY}/nsg1`;
  const made = await done(
    await answers(201, 'PUT', at, { location: 'West US 2', properties: { securityRules: [rule('ssh')] } }),
  );
  assert.equal(made.location, 'westus2');
  assert.equal(made.properties.defaultSecurityRules.length, 6);
  const [ssh] = made.properties.securityRules;
  assert.equal(ssh.id, `${at}/securityRules/ssh`);
  assert.deepEqual(
    [ssh.properties.protocol, ssh.properties.access, ssh.properties.direction],
    ['Tcp', 'Allow', 'Inbound'],
  );
  await done(
    await answers(
      201,
      'PUT',
      `${at}/securityRules/web`,
      rule('web', { priority: 110, destinationPortRange: undefined, destinationPortRanges: ['80', '8000-8100'] }),
    ),
  );
  const conflict = /^Security rule dns conflicts with rule ssh\. Rules cannot have the same Priority and Direction\./;
  await refused(400, 'SecurityRuleConflict', conflict, 'PUT', `${at}/securityRules/dns`, rule('dns'));
  const bad = (code: string, more: object, message = /./) =>
    refused(400, code, message, 'PUT', `${at}/securityRules/bad`, rule('bad', { priority: 200, ...more }));
  await bad('SecurityRuleInvalidPriority', { priority: 4097 }, /Allowed range 100-4096/);
  await bad('SecurityRuleInvalidPortRange', { destinationPortRange: '80,443' }, /Value provided: 80,443\./);
  await bad('SecurityRuleInvalidPortRange', { destinationPortRange: '65536' });
  await bad('SecurityRuleInvalidAddressPrefix', { sourceAddressPrefix: '10.0.0.0/33' });
  await bad('InvalidRequestFormat', { protocol: 'Sctp' }, /must be one of/);
  await bad(
    'InvalidRequestFormat',
    { sourceAddressPrefix: undefined },
    /Security rule must specify SourceAddressPrefixes/,
  );
  const { properties } = (await answers(200, 'GET', at)).body as Json;
  assert.deepEqual(
    properties.securityRules.map((one: Json) => one.name),
    ['ssh', 'web'],
  );
  await done(await answers(202, 'DELETE', `${at}/securityRules/ssh`));
  await answers(200, 'GET', `${at}/securityRules/web`);
  await answers(404, 'GET', `${at}/securityRules/ssh`);
});

test('a security group that a subnet has stays; one that is not there cannot be had', async () => {
  const [near, far] = [`${SECURITY}/near`, `${SECURITY}/far`];
  await answers(201, 'PUT', near, { location: 'westus2' });
  await answers(201, 'PUT', far, { location: 'eastus' });
  const at = `${NETWORK}/secured`;
  const withGroup = (id: string) =>
    network(['10.0.0.0/16'], [subnet('s', '10.0.0.0/24', { networkSecurityGroup: { id } })]);
  for (const id of [far, `${SECURITY}/nobody`])
    await refused(
      400,
      'InvalidResourceReference',
      new RegExp(`^Resource ${id} referenced by resource ${at} was not found\\.`),
      'PUT',
      at,
      withGroup(id),
    );
  await refused(400, 'InvalidRequestFormat', /resource of a wrong type/, 'PUT', at, withGroup(`${NETWORK}/vnet1`));
  await answers(404, 'GET', at);
  await answers(201, 'PUT', at, withGroup(near.toLowerCase()));
  assert.deepEqual(((await answers(200, 'GET', near)).body as Json).properties.subnets, [{ id: `${at}/subnets/s` }]);
  await refused(
    400,
    'InUseNetworkSecurityGroupCannotBeDeleted',
    new RegExp(
      `^Network security group ${near} cannot be deleted because it is in use by the following resources: ${at}/subnets/s\\.`,
    ),
    'DELETE',
    near,
  );
  await answers(200, 'PUT', `${at}/subnets/s`, subnet('s', '10.0.0.0/24'));
  await done(await answers(202, 'DELETE', near));
});

test('lists of a caller have an end', async () => {
  const many = (count: number, one: (index: number) => unknown) =>
    Array.from({ length: count }, (_, index) => one(index));
  const subnets = (count: number) =>
    many(count, index => subnet(`s${index}`, `10.${index >> 13}.${(index >> 5) & 255}.${(index & 31) * 8}/29`));
  const at = `${NETWORK}/many`;
  const whole = (count: number) => network(['10.0.0.0/8'], subnets(count));
  const most = /'properties\.subnets' has 30000 items; there can be 3000/;
  await refused(400, 'InvalidRequestFormat', most, 'PUT', at, whole(30_000));
  const rules = many(1001, index => rule(`r${index}`, { priority: 100 + index }));
  await refused(400, 'InvalidRequestFormat', /1001 items; there can be 1000/, 'PUT', `${SECURITY}/many`, {
    location: 'westus2',
    properties: { securityRules: rules },
  });
  await refused(
    400,
    'InvalidRequestFormat',
    /there can be 1000/,
    'PUT',
    at,
    network(many(1001, () => '10.0.0.0/8') as string[]),
  );
  await answers(404, 'GET', at);
  await answers(201, 'PUT', at, whole(200));
  assert.equal(names(await answers(200, 'GET', at)).length, 200);
});

test('what is asked at once ends as if asked one after the other', async () => {
  const at = `${NETWORK}/busy`;
  await answers(201, 'PUT', at, network(['10.0.0.0/16']));
  // All of them want the same range; one gets it.
  const made = await Promise.all(
    Array.from({ length: 6 }, (_, index) =>
      server.request('PUT', `${at}/subnets/s${index}`, { apiVersion: VERSION, body: subnet('', '10.0.7.0/24') }),
    ),
  );
  assert.deepEqual(made.map(({ status }) => status).sort(), [201, 400, 400, 400, 400, 400]);
  assert.equal(names(await answers(200, 'GET', at)).length, 1);
  // A group that goes while a subnet takes it: either the subnet has it and it is there, or neither.
  for (const round of [1, 2, 3]) {
    const group = `${SECURITY}/race${round}`;
    await answers(201, 'PUT', group, { location: 'westus2' });
    const body = subnet('', `10.0.${100 + round}.0/24`, { networkSecurityGroup: { id: group } });
    const [taken] = await Promise.all([
      server.request('PUT', `${at}/subnets/r${round}`, { apiVersion: VERSION, body }),
      server.request('DELETE', group, { apiVersion: VERSION }),
    ]);
    const left = await server.request('GET', group, { apiVersion: VERSION });
    assert.equal(left.status, taken.status === 201 ? 200 : 404, `${taken.text} ${left.text}`);
  }
});

test('everything was as the OpenAPI files have it', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
