/** `az network` of the unmodified Azure CLI 2.74 (Debian 13): the commands of "Azure VM Image Builder networking options", and what Kiln only keeps. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../kiln.ts';
import type { Printed } from './az.ts';
import { debianAz, debianAzMissing, runInside } from './debian-az.ts';
import { serve } from './served.ts';

const CLIENTS = join(ROOT, 'test/clients');

test('az network: vnet, subnet, nsg, public-ip', { skip: await debianAzMissing() }, async context => {
  const az = await debianAz();
  if ('missing' in az) return context.skip(az.missing);
  const served = await serve(['--workers', '0']);
  try {
    const { exitCode, stdout, stderr } = await runInside(az.root, ['bash', join(CLIENTS, 'network-az.sh')], {
      shared: [CLIENTS, served.home],
      cwd: served.home,
      env: served.env,
    });
    assert.equal(exitCode, 0, `${stdout}\n${stderr}\n${served.printed()}`);
    assert.match(stderr, /\(InUseNetworkSecurityGroupCannotBeDeleted\)/);
    const [network, group, address, left] = stdout
      .split('\n')
      .filter(line => /^[[{]/.test(line))
      .map((line): Printed => JSON.parse(line));
    const subnets = network.subnets.map((one: Printed) => [
      one.name,
      one.privateLinkServiceNetworkPolicies,
      one.delegations.map(({ serviceName }: Printed) => serviceName).join(),
      one.networkSecurityGroup?.id.split('/').at(-1),
    ]);
    assert.deepEqual(subnets, [
      ['aci', 'Enabled', 'Microsoft.ContainerInstance/containerGroups', undefined],
      ['sn1', 'Disabled', '', 'nsg1'],
    ]);
    const [rule] = group.securityRules;
    assert.deepEqual(
      [rule.name, rule.priority, rule.destinationPortRange, group.subnets[0].id],
      ['AzureImageBuilderAccess', 400, '60000-60001', `${network.id}/subnets/sn1`],
    );
    assert.deepEqual([address.name, address.provisioningState], ['ip1', 'Succeeded']);
    assert.deepEqual(left, []);
  } finally {
    const outcome = await served.stop();
    assert.equal(outcome.exitCode, 0, outcome.stderr);
  }
});
