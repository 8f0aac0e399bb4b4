import assert from 'node:assert/strict';
import { test } from 'node:test';
import { redactor } from '../../builds/redact.ts';
import { secretsOf } from './secrets.ts';

const SIGNATURE = 'a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1%2B%2Fw%3D';
const SAS = `sv=2024-11-04&sr=b&sp=r&se=2026-12-31T23%3A59%3A59Z&spr=https&sig=${SIGNATURE}`;

test('the signature of a SAS is a secret wherever a URL stands, what it allows is none', () => {
  const properties = {
    customize: [
      { type: 'Shell', scriptUri: `https://store.example/scripts/a.sh?${SAS}`, sha256Checksum: 'ab'.repeat(32) },
      { type: 'File', sourceUri: 'https://someone:open%20sesame@host.example/file?ref=main', destination: '/tmp/file' },
    ],
    validate: { inVMValidations: [{ type: 'Shell', scriptUri: 'https://host.example/b.sh?token=short1' }] },
    distribute: [{ type: 'VHD', runOutputName: 'vhd', uri: 'https://store.example/vhds/a.vhd?0123456789abcdef0123' }],
    optimize: { workload: { scriptUri: 'https://host.example/c.sh?path=scripts/c.sh&X-Amz-Signature=00112233' } },
  };
  const secrets = secretsOf(properties);
  assert.deepEqual(secrets.sort(), [SIGNATURE, 'open%20sesame', 'short1', '0123456789abcdef0123', '00112233'].sort());
  const redact = redactor(secrets);
  assert.equal(
    redact(`curl "https://store.example/scripts/a.sh?${SAS}"`),
    `curl "https://store.example/scripts/a.sh?${SAS.replace(SIGNATURE, '<sensitive>')}"`,
  );
  assert.equal(redact(`sig=${decodeURIComponent(SIGNATURE)}`), 'sig=<sensitive>');
  assert.equal(redact(`sig=${SIGNATURE.toLowerCase().slice(0, 3)}`), `sig=${SIGNATURE.toLowerCase().slice(0, 3)}`);
  assert.equal(redact('password: open sesame'), 'password: <sensitive>');
});

test('what is no URL has no secrets', () => {
  assert.deepEqual(secretsOf({ inline: ['echo a?token=0123456789abcdef', 'true'], tags: null, size: 3 }), []);
  assert.deepEqual(secretsOf({ scriptUri: 'https://host.example/plain.sh' }), []);
  assert.deepEqual(secretsOf('https://[broken?sig=abcdefgh'), []);
});
