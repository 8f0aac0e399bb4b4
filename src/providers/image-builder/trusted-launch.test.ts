import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trustedLaunch } from './trusted-launch.ts';

const all = {
  securityTypes: ['Standard', 'TrustedLaunchSupported'],
  firmware: 'uefi' as const,
  kind: 'qemu' as const,
  machines: { lacksTrustedLaunch: async () => undefined },
};

test('machines get Secure Boot and a TPM where a definition says so, and nothing is missing', async () => {
  assert.deepEqual(await trustedLaunch(all), { trusted: true });
  assert.deepEqual(await trustedLaunch({ ...all, securityTypes: [] }), {});
  assert.deepEqual(await trustedLaunch({ ...all, securityTypes: ['Standard', 'None'] }), {});
});

test('where something is missing the build goes on without, and says what', async () => {
  for (const [part, what] of [
    [{ kind: 'container' }, /built in a container/],
    [{ firmware: 'bios' }, /by BIOS \(an entry of catalogue\.json/],
    [{ machines: {} }, /its kind of machine has none/],
    [
      { machines: { lacksTrustedLaunch: async () => 'swtpm is not installed' } },
      /TPM: swtpm is not installed\. Whether/,
    ],
  ] as const) {
    const { trusted, sentence } = await trustedLaunch({ ...all, ...part });
    assert.equal(trusted, undefined);
    assert.match(sentence!, what);
    assert.match(sentence!, /TrustedLaunchSupported.* not proven\.$/);
  }
});
