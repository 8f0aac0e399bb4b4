import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredResource } from '../store.ts';
import { isTrusted, kindOf, requireSameKind } from './same-kind.ts';

const ID = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/x/images/y';
const trusted = (value: string) => ({
  features: [
    { name: 'IsHibernateSupported', value: 'True' },
    { name: 'securityType', value },
  ],
});

/** What the check says of a definition with these properties; undefined when the source fits. */
function complaint(properties: object, source: object = {}): string | undefined {
  const definitions = new Map([[3, { id: ID, properties } as unknown as StoredResource]]);
  try {
    requireSameKind(definitions, { osType: 'Linux', hyperVGeneration: 'V1', architecture: 'x64', ...source });
    return undefined;
  } catch (error) {
    assert.equal((error as { target: string }).target, 'properties.distribute[3].galleryImageId');
    return (error as Error).message;
  }
}

test('system, generation and architecture are those of the source; a definition says V1 and x64 by saying nothing', () => {
  assert.equal(complaint({}), undefined);
  assert.equal(
    complaint({ osType: 'linux', hyperVGeneration: 'v2', architecture: 'X64' }, { hyperVGeneration: 'V2' }),
    undefined,
  );
  assert.match(complaint({ osType: 'Windows' })!, /has the osType 'Linux', but .* is for 'Windows'/);
  assert.match(complaint({}, { hyperVGeneration: 'V2' })!, /has the hyperVGeneration 'V2', but .* is for 'V1'/);
  assert.match(complaint({ architecture: 'Arm64' })!, /has the architecture 'x64', but .* is for 'Arm64'/);
  assert.match(complaint({}, { architecture: 'Arm64' })!, /has the architecture 'Arm64'/);
});

test('Trusted Launch takes generation 2, and a source that has it where that is known', () => {
  const second = { hyperVGeneration: 'V2' };
  for (const value of [
    'TrustedLaunch',
    'TrustedLaunchSupported',
    'ConfidentialVMSupported',
    'TrustedLaunchAndConfidentialVmSupported',
  ]) {
    assert.ok(isTrusted(value));
    assert.match(complaint(trusted(value))!, /only machines of generation V2/);
    assert.equal(complaint({ ...second, ...trusted(value) }, second), undefined, 'a platform image');
    const version = { ...second, ...kindOf(trusted(value)) };
    assert.equal(complaint({ ...second, ...trusted(value) }, version), undefined);
    assert.match(complaint(second, version)!, new RegExp(`security type '${value}', but .* is for 'None'`));
    assert.match(complaint({ ...second, ...trusted(value) }, { ...second, ...kindOf({}) })!, /security type 'None'/);
  }
  for (const value of ['None', 'Standard']) {
    assert.equal(isTrusted(value), false);
    assert.equal(complaint(trusted(value), kindOf({})), undefined);
  }
});

test('the kind of a definition is read leniently: it may be gone, or older than the fields', () => {
  assert.deepEqual(kindOf(undefined), { architecture: 'x64' });
  assert.deepEqual(kindOf({ features: 'none' }), { architecture: 'x64', defined: true });
  assert.deepEqual(kindOf({ architecture: 'Arm64', ...trusted('TrustedLaunch') }), {
    architecture: 'Arm64',
    defined: true,
    securityType: 'TrustedLaunch',
  });
});
