import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type AzSignIn, writeAzConfig } from './az-config.ts';
import { pastProxies } from './env.ts';
import { getIni, setIni } from './ini.ts';

test('an INI file keeps what is not set', () => {
  const text = '# mine\n[core]\noutput = table\n\n[cloud]\nName=AzureCloud\n; end\n[other]\nname = x\n';
  const set = setIni(text, 'cloud', { name: 'Kiln', profile: 'latest' });
  assert.equal(
    set,
    '# mine\n[core]\noutput = table\n\n[cloud]\nname = Kiln\n; end\nprofile = latest\n[other]\nname = x\n',
  );
  assert.equal(getIni(set, 'cloud', 'name'), 'Kiln');
  assert.equal(getIni(set, 'other', 'name'), 'x');
  assert.equal(getIni(set, 'core', 'name'), undefined);
  assert.equal(setIni('', 'cloud', { name: 'Kiln' }), '[cloud]\nname = Kiln\n');
  assert.equal(setIni('[a]\nb = 1', 'cloud', { name: 'Kiln' }), '[a]\nb = 1\n\n[cloud]\nname = Kiln\n');
  assert.equal(setIni(set, 'cloud', { name: 'Kiln', profile: 'latest' }), set);
});

const SIGN_IN: AzSignIn = {
  cloud: 'Kiln',
  config: {
    endpoints: { resourceManager: 'https://127.0.0.1:1', activeDirectory: 'https://127.0.0.1:1/adfs' },
    suffixes: { storageEndpoint: 'localhost:1' },
  },
  tenantId: 'tenant',
  clientId: 'client',
  secret: 'secret',
  subscriptions: [
    { subscriptionId: 's1', displayName: 'One', state: 'Enabled' },
    { subscriptionId: 's2', displayName: 'Two', state: 'Enabled' },
  ],
};

test('a sign-in is written again without losing what the person and az made of it', async t => {
  const directory = join(await mkdtemp(join(tmpdir(), 'kiln-az-')), 'azure');
  t.after(() => rm(join(directory, '..'), { recursive: true, force: true }));
  const read = (name: string) => readFile(join(directory, name), 'utf8');
  const profile = async () => JSON.parse((await read('azureProfile.json')).replace(/^\uFEFF/, ''));
  const chosen = async () => (await profile()).subscriptions.filter((one: { isDefault: boolean }) => one.isDefault);
  await writeAzConfig(directory, SIGN_IN);
  assert.equal((await stat(directory)).mode & 0o777, 0o700);
  assert.equal((await stat(join(directory, 'service_principal_entries.json'))).mode & 0o777, 0o600);
  assert.match(await read('clouds.config'), /^\[Kiln\]\nendpoint_resource_manager = https:\/\/127\.0\.0\.1:1\n/);
  assert.deepEqual(
    (await chosen()).map((one: { id: string }) => one.id),
    ['s1'],
  );

  // az account set, az config set, az login with somebody else, a token.
  const changed = await profile();
  changed.installationId = 'kept';
  for (const one of changed.subscriptions) one.isDefault = one.id === 's2';
  await writeFile(join(directory, 'azureProfile.json'), `\uFEFF${JSON.stringify(changed)}`);
  await writeFile(join(directory, 'config'), '[cloud]\nname = AzureCloud\n[core]\noutput = table\n');
  const entries = [...JSON.parse(await read('service_principal_entries.json')), { client_id: 'x', tenant: 'y' }];
  await writeFile(join(directory, 'service_principal_entries.json'), JSON.stringify(entries));
  await writeFile(join(directory, 'msal_token_cache.json'), '{}');
  await writeAzConfig(directory, { ...SIGN_IN, secret: 'another' });
  assert.deepEqual(
    (await chosen()).map((one: { id: string }) => one.id),
    ['s2'],
  );
  assert.equal((await profile()).installationId, 'kept');
  assert.equal(await read('config'), '[cloud]\nname = Kiln\n[core]\noutput = table\n');
  assert.deepEqual(
    JSON.parse(await read('service_principal_entries.json')).map(
      (one: { client_secret?: string }) => one.client_secret,
    ),
    [undefined, 'another'],
  );
  assert.equal(await read('msal_token_cache.json'), '{}');

  // Another address: what az remembers of the old one would mislead it.
  const endpoints = { ...SIGN_IN.config.endpoints, activeDirectory: 'https://127.0.0.1:2/adfs' };
  await writeAzConfig(directory, { ...SIGN_IN, config: { ...SIGN_IN.config, endpoints } });
  await assert.rejects(read('msal_token_cache.json'), { code: 'ENOENT' });
});

test('a proxy is passed by, where there is one', () => {
  const origin = 'https://127.0.0.1:8443';
  assert.deepEqual(pastProxies({ origin }, { NO_PROXY: 'a' }), {});
  assert.deepEqual(pastProxies({ origin }, { HTTPS_PROXY: 'http://p', NO_PROXY: 'a, 127.0.0.1' }), {});
  const value = 'a,127.0.0.1';
  assert.deepEqual(pastProxies({ origin }, { https_proxy: 'http://p', no_proxy: 'a' }), {
    NO_PROXY: value,
    no_proxy: value,
  });
  assert.equal(pastProxies({ origin: 'https://[::1]:1' }, { ALL_PROXY: 'x' }).NO_PROXY, '::1');
});
