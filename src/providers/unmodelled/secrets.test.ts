import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { withoutSecrets } from './secrets.ts';

const VM = 'Microsoft.Compute/virtualMachines';
const kept = (properties: object, type = VM, name = 'x') => withoutSecrets({ properties }, type, name);

test('what solutions really send', () => {
  const cases: [type: string, properties: object, shown: object, dropped: string[], name?: string][] = [
    [
      VM,
      {
        osProfile: {
          adminUsername: 'azureuser',
          adminPassword: 'Hunter2!',
          customData: 'I2Nsb3VkLWNvbmZpZw==',
          linuxConfiguration: {
            disablePasswordAuthentication: true,
            ssh: { publicKeys: [{ path: '/home/a/.ssh/authorized_keys', keyData: 'ssh-ed25519 AAAA a' }] },
          },
          secrets: [{ sourceVault: { id: '/x' }, vaultCertificates: [{ certificateUrl: 'https://v/secrets/c' }] }],
        },
      },
      {
        osProfile: {
          adminUsername: 'azureuser',
          linuxConfiguration: {
            disablePasswordAuthentication: true,
            ssh: { publicKeys: [{ path: '/home/a/.ssh/authorized_keys', keyData: 'ssh-ed25519 AAAA a' }] },
          },
          secrets: [{ sourceVault: { id: '/x' }, vaultCertificates: [{ certificateUrl: 'https://v/secrets/c' }] }],
        },
      },
      ['properties.osProfile.adminPassword', 'properties.osProfile.customData'],
    ],
    [
      `${VM}/extensions`,
      { settings: { fileUris: ['https://x/a.sh'] }, protectedSettings: { commandToExecute: './a.sh -k 1' } },
      { settings: { fileUris: ['https://x/a.sh'] } },
      ['properties.protectedSettings'],
    ],
    [
      'Microsoft.KeyVault/vaults',
      {
        enableSoftDelete: true,
        accessPolicies: [{ objectId: 'o', permissions: { secrets: ['get', 'List'], keys: ['all'] } }],
      },
      {
        enableSoftDelete: true,
        accessPolicies: [{ objectId: 'o', permissions: { secrets: ['get', 'List'], keys: ['all'] } }],
      },
      [],
    ],
    [
      'Microsoft.KeyVault/vaults/secrets',
      { value: 'plain', contentType: 'text/plain', attributes: { enabled: true } },
      { contentType: 'text/plain', attributes: { enabled: true } },
      ['properties.value'],
    ],
    [
      'Microsoft.Web/sites',
      {
        siteConfig: {
          appSettings: [
            { name: 'DB_PASSWORD', value: 'p' },
            { name: 'REGION', value: 'west' },
          ],
          connectionStrings: [{ name: 'db', connectionString: 'Server=a;Password=p', type: 'SQLAzure' }],
        },
      },
      {
        siteConfig: {
          appSettings: [{ name: 'DB_PASSWORD' }, { name: 'REGION', value: 'west' }],
          connectionStrings: [{ name: 'db', type: 'SQLAzure' }],
        },
      },
      ['properties.siteConfig.appSettings[0].value', 'properties.siteConfig.connectionStrings[0].connectionString'],
    ],
    [
      'Microsoft.Web/sites/config',
      { REGION: 'west', ANY: 'x' },
      {},
      ['properties.REGION', 'properties.ANY'],
      'appsettings',
    ],
    [
      'Microsoft.ContainerInstance/containerGroups',
      {
        containers: [
          {
            name: 'c',
            properties: {
              environmentVariables: [
                { name: 'A', secureValue: 's' },
                { name: 'API_KEY', value: 'k' },
              ],
            },
          },
        ],
        imageRegistryCredentials: [{ server: 's', username: 'u', password: 'p' }],
      },
      {
        containers: [{ name: 'c', properties: { environmentVariables: [{ name: 'A' }, { name: 'API_KEY' }] } }],
        imageRegistryCredentials: [{ server: 's', username: 'u' }],
      },
      [
        'properties.containers[0].properties.environmentVariables[0].secureValue',
        'properties.containers[0].properties.environmentVariables[1].value',
        'properties.imageRegistryCredentials[0].password',
      ],
    ],
    [
      'Microsoft.Automation/automationAccounts/variables',
      { isEncrypted: true, value: '"x"' },
      { isEncrypted: true },
      ['properties.value'],
    ],
    [
      'Microsoft.Logic/workflows',
      { parameters: { p: { type: 'SecureString', value: 'v' }, q: { type: 'String', value: 'w' } } },
      { parameters: { p: { type: 'SecureString' }, q: { type: 'String', value: 'w' } } },
      ['properties.parameters.p.value'],
    ],
    [
      'Microsoft.Sql/servers',
      { administratorLogin: 'sa', administratorLoginPassword: 'p' },
      { administratorLogin: 'sa' },
      ['properties.administratorLoginPassword'],
    ],
    [
      'Microsoft.Compute/disks',
      {
        creationData: { sourceUri: 'https://a.blob.core.windows.net/v/d.vhd?sv=1&sig=abc%3D' },
        encryption: { diskEncryptionSetId: '/x' },
      },
      { creationData: {}, encryption: { diskEncryptionSetId: '/x' } },
      ['properties.creationData.sourceUri'],
    ],
    [
      'Microsoft.Insights/components',
      { Application_Type: 'web', keyVaultSecretUri: 'https://v/secrets/x', passwordExpirationDays: 90 },
      { Application_Type: 'web', keyVaultSecretUri: 'https://v/secrets/x', passwordExpirationDays: 90 },
      [],
    ],
  ];
  for (const [type, properties, shown, dropped, name] of cases) {
    const found = kept(properties, type, name);
    assert.deepEqual((found.value as { properties: unknown }).properties, shown, type);
    assert.deepEqual([...found.dropped].sort(), [...dropped].sort(), type);
  }
});

const SECRET = 'c0ffee-5ecret';
/** Values with members that say what they are, somewhere in any JSON. */
const secretly = fc.oneof(
  fc
    .constantFrom(
      'adminPassword',
      'ADMIN_PASSWORD',
      'clientSecret',
      'primary-key',
      'accessToken',
      'storageAccountKey',
      'connectionString',
      'privateKey',
      'passPhrase',
    )
    .map(name => ({ [name]: SECRET })),
  fc.constantFrom('DB_PASSWORD', 'api.key', 'SECRET').map(name => ({ name, value: SECRET })),
  fc.constantFrom('protectedSettings', 'secureValue', 'customData').map(name => ({ [name]: [{ a: SECRET }] })),
  fc
    .constantFrom(
      `DefaultEndpointsProtocol=https;AccountName=a;AccountKey=${SECRET}`,
      `https://a/b?sv=1&sig=${SECRET}`,
      `amqp://user:${SECRET}@host`,
      `Bearer ${SECRET}${SECRET}${SECRET}${SECRET}`,
      `-----BEGIN RSA PRIVATE KEY-----\n${SECRET}`,
    )
    .map(text => ({ any: text })),
  fc.constant({ env: [{ name: 'STRIPE_KEY', value: SECRET }] }),
  fc.constantFrom('psk', 'registrationKey', 'preSharedKey').map(name => ({ [name]: SECRET })),
  fc.constant({ passwords: [SECRET, 'get'] }),
  fc.constant({ secrets: [{ name: 'a', value: SECRET }] }),
);

test('no secret is kept, however deep it stands, and the rest is as it was', () => {
  const { tree } = fc.letrec(tie => ({
    tree: fc.oneof(
      { maxDepth: 6 },
      fc.oneof(fc.integer(), fc.boolean(), fc.constant(null), fc.constantFrom('a', 'b c', '')),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom('a', 'settings', 'name', '__proto__', 'constructor', 'x y'), tie('tree'), {
        maxKeys: 4,
      }),
    ),
  }));
  fc.assert(
    fc.property(
      tree,
      secretly,
      fc.array(fc.constantFrom('a', 'b', 'list'), { maxLength: 5 }),
      (plain, secret, path) => {
        const hidden = path.reduceRight<unknown>(
          (inner, name) => (name === 'list' ? [inner] : { [name]: inner }),
          secret,
        );
        const body = { properties: { plain, hidden } };
        const { value, dropped } = withoutSecrets(body, VM, 'x');
        assert.ok(!JSON.stringify(value).includes(SECRET));
        assert.ok(dropped.length > 0);
        assert.equal(JSON.stringify((value as typeof body).properties.plain), JSON.stringify(plain));
        assert.equal(Object.getPrototypeOf((value as typeof body).properties), Object.prototype);
      },
    ),
  );
});

test('a body that was read once is read again without a change', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), body => {
      const once = withoutSecrets(body, VM, 'x');
      const twice = withoutSecrets(once.value as Record<string, unknown>, VM, 'x');
      assert.deepEqual(twice.value, once.value);
      assert.deepEqual(twice.dropped, []);
    }),
  );
});

test('long texts are looked through in little time', { timeout: 20_000 }, () => {
  for (const text of [
    'a'.repeat(1_000_000),
    '&sig'.repeat(250_000),
    `x://${'a:'.repeat(400_000)}`,
    `eyJ${'a.'.repeat(400_000)}`,
    'Password '.repeat(100_000),
  ])
    withoutSecrets({ properties: { text } }, VM, 'x');
});
