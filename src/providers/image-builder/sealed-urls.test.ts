import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hasSecretUrls, openUrls, sealUrls, urlsWithoutSecrets } from './sealed-urls.ts';

const roots: string[] = [];
const newHome = async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-sealed-'));
  roots.push(root);
  return { root };
};
after(async () => {
  for (const root of roots) await rm(root, { recursive: true, force: true });
});

const ID = '/subscriptions/s/resourceGroups/g/providers/Microsoft.VirtualMachineImages/imageTemplates/t';
const SAS = 'sv=2024-11-04&se=2030-01-01T00%3A00%3A00Z&sp=rcw&sig=a1B2c3D4e5F6g7H8i9J0%2B%2Fw%3D';
const PROPERTIES = {
  source: { type: 'PlatformImage', publisher: 'p' },
  customize: [
    { type: 'Shell', inline: ['true'] },
    { type: 'Shell', scriptUri: `https://store.example/a.sh?${SAS}` },
    { type: 'File', sourceUri: 'https://someone:open%20sesame@host.example/file?ref=main', destination: '/tmp/f' },
    { type: 'Shell', scriptUri: 'https://host.example/plain.sh?ref=main' },
  ],
  optimize: { workload: { state: 'Enabled', scriptUri: `https://store.example/w.sh?${SAS}` } },
  distribute: [{ type: 'VHD', runOutputName: 'v', uri: `https://store.example/vhds/a.vhd?${SAS}` }],
};
const SECRET = /a1B2c3D4|sesame/;

test('what is stored has no secret in plain text, is a URL, and opens as it was given', async () => {
  const home = await newHome();
  const sealed = await sealUrls(PROPERTIES, ID, home);
  assert.doesNotMatch(JSON.stringify(sealed), SECRET);
  assert.equal(new URL(sealed.distribute[0]!.uri).pathname, '/vhds/a.vhd');
  assert.match(sealed.distribute[0]!.uri, /\?sv=2024-11-04&se=[^&]+&sp=rcw&kiln-sealed=[\w-]+$/);
  assert.equal(sealed.customize[3]!.scriptUri, PROPERTIES.customize[3]!.scriptUri);
  assert.deepEqual(await openUrls(sealed, ID.toLowerCase(), home), PROPERTIES);
  const refused = { code: 'StateUnwritable', message: `A URL of ${ID}2 cannot be decrypted.` };
  await assert.rejects(openUrls(sealed, `${ID}2`, home), refused);
  await assert.rejects(openUrls(sealed, ID, await newHome()), { code: 'StateUnwritable' });
});

test('readers see the same of what is sealed and of what an older Kiln stored: all but the secret', async () => {
  const sealed = await sealUrls(PROPERTIES, ID, await newHome());
  const shown = urlsWithoutSecrets(PROPERTIES);
  assert.deepEqual(urlsWithoutSecrets(sealed), shown);
  assert.equal(shown.distribute[0]!.uri, `https://store.example/vhds/a.vhd?${SAS.split('&sig')[0]}`);
  assert.doesNotMatch(JSON.stringify(shown), SECRET);
  assert.deepEqual([PROPERTIES, sealed, shown].map(hasSecretUrls), [true, true, false]);
  assert.deepEqual(await openUrls(PROPERTIES, ID, await newHome()), PROPERTIES);
});

test('who writes what looks sealed gets it back as it was written, and nothing of others', async () => {
  const home = await newHome();
  const other = await sealUrls(PROPERTIES, `${ID}2`, home);
  for (const given of [other, { uri: 'https://host.example/a/b?kiln-sealed=x' }]) {
    const sealed = await sealUrls(given, ID, home);
    assert.deepEqual(await openUrls(sealed, ID, home), given);
  }
});

test('without a secret no key is made, nor read', async () => {
  const home = await newHome();
  await writeFile(join(home.root, 'storage.key'), 'broken');
  const plain = { scriptUri: 'https://host.example/a.sh', uri: 3, inline: [`https://store.example/?${SAS}`] };
  assert.deepEqual(await sealUrls(plain, ID, home), plain);
  assert.deepEqual(await openUrls(plain, ID, home), plain);
  assert.deepEqual(await readdir(home.root), ['storage.key']);
  assert.equal(hasSecretUrls(plain), false);
});
