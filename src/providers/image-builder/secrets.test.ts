import assert from 'node:assert/strict';
import { test } from 'node:test';
import { redactor } from '../../builds/redact.ts';
import { secretsOf, withoutSecrets } from './secrets.ts';

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

test('who may come in is in a URL too: a token without a password, or a long name', () => {
  const found = (url: string) => secretsOf({ scriptUri: url });
  assert.deepEqual(found('https://ghp_0123456789@raw.host.example/a.sh'), ['ghp_0123456789']);
  assert.deepEqual(found('https://0123456789abcdef:x-oauth-basic@host.example/a'), [
    '0123456789abcdef',
    'x-oauth-basic',
  ]);
  assert.deepEqual(found('https://someone:p@ss:word@host.example/a'), ['p@ss:word']);
  assert.deepEqual(found('https://abcdefgh:@host.example/a'), ['abcdefgh']);
  assert.deepEqual(found('ssh://git@host.example/a'), []);
});

test('URLs within a line are found, as shells, JSON and XML write them', () => {
  const url = `https://store.example/a.sh?${SAS}`;
  for (const line of [
    `curl -s "${url}" | sh`,
    `curl -s '${url}'|sh`,
    `x=$(curl -s ${url.replaceAll('&', '\\&')}); echo "$x"`,
    `echo "{\\"url\\": \\"${url}\\"}" > /etc/app.json`,
    `<uri>${url.replaceAll('&', '&amp;')}</uri>`,
    `export URL=${url}; run`,
    `echo See ${url}, or ask.`,
    `azcopy copy "https://store.example/a.sh?$KEEP" . ; set "${SAS}"`,
    `az storage blob download --sas-token '?${SAS}'`,
  ])
    assert.deepEqual(secretsOf({ inline: ['true', line] }), [SIGNATURE], line);
  assert.deepEqual(secretsOf({ inline: ['git clone https://abcdefgh@host.example/a.git'] }), ['abcdefgh']);
});

test('without its secrets a URL says the rest', () => {
  assert.equal(withoutSecrets(`https://store.example/a?${SAS}`), `https://store.example/a?${SAS.split('&sig=')[0]}`);
  assert.equal(
    withoutSecrets('https://0123456789abcdef:x@host.example:8443/a?ref=main#b'),
    'https://host.example:8443/a?ref=main#b',
  );
  assert.equal(withoutSecrets('https://someone:secret@host.example/a?token=short1'), 'https://host.example/a');
  for (const plain of [
    'https://host.example/a?ref=main',
    'ssh://git@host.example/a',
    'https://host.example/a?',
    'file:///a/b?c',
    './a.sh',
    '',
  ])
    assert.equal(withoutSecrets(plain), plain);
});

test('what is no URL has no secrets', () => {
  assert.deepEqual(secretsOf({ inline: ['echo a?token=0123456789abcdef', 'true'], tags: null, size: 3 }), []);
  assert.deepEqual(secretsOf({ scriptUri: 'https://host.example/plain.sh' }), []);
  assert.deepEqual(secretsOf('https://{account}.store.example/a?sig=abcdefgh'), ['abcdefgh']);
});
