import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { JsonObject } from '../../arm/shape.ts';
import { IMAGE_BUILDER_API_VERSIONS, NEWEST_API_VERSION } from './api-versions.ts';
import { versionChoice } from './distributors.ts';
import { echoProperties, normaliseTemplate } from './normalise.ts';
import { unsupported } from './unsupported.ts';
import { checkTemplateName, type ValidateOptions, validateTemplate } from './validate.ts';

const IDENTITY = '/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder';
const DEFINITION = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/gallery/images/web';
const IMAGE = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/web';
const END_REQUIRED =
  'Please review http://aka.ms/azvmimagebuildertmplref for details on fields required in the Image Builder Template.';
const END_VALUE =
  'Please review http://aka.ms/azvmimagebuildertmplref for details on fields requirements in the Image Builder Template.';

const SOURCE = { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' };
const VHD = { type: 'VHD', runOutputName: 'disk' };

function template(properties: JsonObject = {}, envelope: JsonObject = {}): JsonObject {
  return {
    location: 'eastus',
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
    properties: { source: SOURCE, distribute: [VHD], ...properties },
    ...envelope,
  };
}

const check = (body: unknown, options: Partial<ValidateOptions> = {}) =>
  validateTemplate(body, { apiVersion: NEWEST_API_VERSION, ...options });
const paths = (body: unknown, options: Partial<ValidateOptions> = {}) =>
  check(body, options).violations.map(violation => violation.path);
const first = (body: unknown, options: Partial<ValidateOptions> = {}) => check(body, options).violations[0]?.message;

test('a small template has nothing wrong in any api-version', () => {
  for (const apiVersion of IMAGE_BUILDER_API_VERSIONS)
    assert.deepEqual(check(template(), { apiVersion }).violations, [], apiVersion);
});

test('a missing field is told in the words of the service', () => {
  assert.equal(
    first(template({ distribute: [{ type: 'VHD' }] })),
    `Validation failed: 'ImageTemplate.properties.distribute[0]': Missing field 'runOutputName'. ${END_REQUIRED}`,
  );
  assert.equal(
    first(template({}, { identity: null })),
    `Validation failed: 'ImageTemplate': Missing field 'identity'. ${END_REQUIRED}`,
  );
});

test('a bad value is told in the words of the service', () => {
  assert.equal(
    first(template({ source: { type: 'ManagedImage', imageId: 'nonsense' } })),
    `Validation failed: 'ImageTemplate.properties.source': Field 'imageId' has a bad value: 'nonsense'. ${END_VALUE}`,
  );
  const [violation] = check(template({ distribute: [{ ...VHD, type: 'vhd' }] })).violations;
  assert.equal(
    violation?.message,
    `Validation failed: 'ImageTemplate.properties': Field 'distribute[0].type' has a bad value: 'vhd'. ${END_VALUE}`,
  );
  assert.equal(violation?.hint, "Write 'VHD': case matters here.");
});

test('all violations are reported at once, in the order of the document', () => {
  const body = template(
    {
      source: { type: 'PlatformImage', publisher: 'Debian', offer: '', version: 'latest' },
      customize: [
        { type: 'Shell' },
        { type: 'shell', inline: ['true'] },
        { type: 'File', sourceUri: 'https://h/f' },
        { type: 'Shell', inline: [] },
      ],
      distribute: [VHD, VHD, { type: 'SharedImage', runOutputName: 'a b', galleryImageId: IMAGE }],
      buildTimeoutInMinutes: '80',
    },
    { location: 'atlantis' },
  );
  assert.deepEqual(paths(body), [
    'location',
    'properties.source.offer',
    'properties.source.sku',
    'properties.customize[0]',
    'properties.customize[1].type',
    'properties.customize[2].destination',
    'properties.customize[3].inline',
    'properties.distribute[1].runOutputName',
    'properties.distribute[2].runOutputName',
    'properties.distribute[2].galleryImageId',
    'properties.buildTimeoutInMinutes',
  ]);
});

test('identity: required from 2020-02-14, exactly one, of the right type', () => {
  const without = template({}, { identity: undefined });
  assert.deepEqual(paths(without, { apiVersion: '2020-02-14' }), ['identity']);
  assert.deepEqual(paths(without, { apiVersion: '2020-02-14', identityOptional: true }), []);
  assert.deepEqual(paths(without, { apiVersion: '2019-05-01-preview' }), []);
  assert.deepEqual(paths(template({}, { identity: { type: 'SystemAssigned' } })), ['identity.type']);
  assert.deepEqual(paths(template({}, { identity: { type: 'UserAssigned' } })), ['identity.userAssignedIdentities']);
  assert.deepEqual(
    paths(
      template(
        {},
        { identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {}, [`${IDENTITY}2`]: {} } } },
      ),
    ),
    ['identity.userAssignedIdentities'],
  );
  assert.deepEqual(paths(template({}, { identity: { type: 'UserAssigned', userAssignedIdentities: { x: {} } } })), [
    'identity.userAssignedIdentities.x',
  ]);
});

test('buildTimeoutInMinutes: 0 and 6 to 960', () => {
  for (const minutes of [0, 6, 240, 960]) assert.deepEqual(paths(template({ buildTimeoutInMinutes: minutes })), []);
  for (const minutes of [-1, 1, 5, 961, 7.5, '80', true])
    assert.deepEqual(paths(template({ buildTimeoutInMinutes: minutes })), ['properties.buildTimeoutInMinutes']);
  assert.match(check(template({ buildTimeoutInMinutes: 3 })).violations[0]?.hint ?? '', /token.*5 minutes/);
});

test('scripts: exactly one of scriptUri and inline, checksums, URLs', () => {
  const step = (customizer: JsonObject, options?: Partial<ValidateOptions>) =>
    paths(template({ customize: [customizer] }), options);
  const sum = 'a'.repeat(64);
  assert.deepEqual(step({ type: 'Shell', scriptUri: 'https://h/s.sh', sha256Checksum: sum }), []);
  assert.deepEqual(step({ type: 'Shell', scriptUri: 'https://h/s.sh', sha256Checksum: '' }), []);
  assert.deepEqual(step({ type: 'Shell', scriptUri: 'https://h/s.sh', sha256Checksum: 'abc' }), [
    'properties.customize[0].sha256Checksum',
  ]);
  assert.deepEqual(step({ type: 'Shell', scriptUri: 'https://h/s.sh', inline: ['x'] }), ['properties.customize[0]']);
  assert.deepEqual(step({ type: 'Shell', inline: 'x' }), ['properties.customize[0].inline']);
  assert.deepEqual(step({ type: 'Shell', scriptUri: './s.sh' }), ['properties.customize[0].scriptUri']);
  assert.deepEqual(step({ type: 'Shell', scriptUri: 'file:///s.sh' }), ['properties.customize[0].scriptUri']);
  assert.deepEqual(step({ type: 'Shell', scriptUri: 'file:///s.sh' }, { localFiles: true }), []);
  assert.deepEqual(step({ type: 'PowerShell', inline: ['x'], runAsSystem: true }), ['properties.customize[0]']);
  assert.deepEqual(
    step({ type: 'PowerShell', inline: ['x'], runAsSystem: true, runElevated: true, validExitCodes: [0, 3010] }),
    [],
  );
  assert.deepEqual(step({ type: 'WindowsRestart', restartTimeout: '5 minutes' }), [
    'properties.customize[0].restartTimeout',
  ]);
  assert.deepEqual(step({ type: 'WindowsUpdate', updateLimit: -1 }), ['properties.customize[0].updateLimit']);
});

test('regions and versions of a gallery', () => {
  const shared = (more: JsonObject, apiVersion: string = NEWEST_API_VERSION) =>
    paths(
      template({ distribute: [{ type: 'SharedImage', runOutputName: 'o', galleryImageId: DEFINITION, ...more }] }),
      { apiVersion },
    );
  const at = 'properties.distribute[0]';
  assert.deepEqual(shared({}), []);
  assert.deepEqual(shared({}, '2021-10-01'), [`${at}.replicationRegions`]);
  assert.deepEqual(
    shared({ replicationRegions: ['East US', 'westus2'], storageAccountType: 'Standard_ZRS' }, '2021-10-01'),
    [],
  );
  assert.deepEqual(shared({ replicationRegions: ['eastus'], targetRegions: [{ name: 'eastus' }] }), [at]);
  assert.deepEqual(shared({ storageAccountType: 'Standard_LRS', targetRegions: [{ name: 'eastus' }] }), [at]);
  assert.deepEqual(shared({ targetRegions: [{ name: 'eastus' }, { name: 'East US' }] }), [
    `${at}.targetRegions[1].name`,
  ]);
  assert.deepEqual(shared({ targetRegions: [{ name: 'nowhere', replicaCount: 0 }] }), [
    `${at}.targetRegions[0].replicaCount`,
    `${at}.targetRegions[0].name`,
  ]);
  assert.deepEqual(shared({ versioning: { scheme: 'Latest', major: 2 } }), []);
  assert.deepEqual(shared({ versioning: { scheme: 'latest' } }), [`${at}.versioning.scheme`]);
  assert.deepEqual(shared({ galleryImageId: `${DEFINITION}/versions/1.0.0` }), []);
  assert.deepEqual(shared({ galleryImageId: `${DEFINITION}/versions/1.0` }), [`${at}.galleryImageId`]);
  assert.deepEqual(shared({ galleryImageId: `${DEFINITION}/versions/1.0.0`, versioning: { scheme: 'Source' } }), [at]);
  assert.deepEqual(shared({ replicationMode: 'Shallow' }), []);
  assert.deepEqual(shared({ replicationRegions: [], targetRegions: [{ name: 'eastus' }] }), []);
  assert.deepEqual(shared({ artifactTags: { ['t'.repeat(513)]: 'v' } }), [`${at}.artifactTags.${'t'.repeat(513)}`]);
});

test('sources: planInfo whole, latest of a gallery from 2022-07-01', () => {
  const source = (value: JsonObject, apiVersion: string = NEWEST_API_VERSION) =>
    paths(template({ source: value }), { apiVersion });
  assert.deepEqual(source({ ...SOURCE, planInfo: { planName: 'p', planProduct: 'q' } }), [
    'properties.source.planInfo.planPublisher',
  ]);
  const latest = { type: 'SharedImageVersion', imageVersionId: `${DEFINITION}/versions/latest` };
  assert.deepEqual(source(latest), []);
  assert.deepEqual(source(latest, '2022-02-14'), ['properties.source.imageVersionId']);
  assert.deepEqual(source({ type: 'SharedImageVersion', imageVersionId: DEFINITION }), [
    'properties.source.imageVersionId',
  ]);
  assert.deepEqual(source({ type: 'ISO' }), ['properties.source.type']);
  assert.deepEqual(source({}), ['properties.source.type']);
});

test('vmProfile: sizes and networks', () => {
  const subnet = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/a';
  const profile = (value: JsonObject) => paths(template({ vmProfile: value }));
  assert.deepEqual(
    profile({ vmSize: '', osDiskSizeGB: 0, vnetConfig: { subnetId: subnet, containerInstanceSubnetId: `${subnet}2` } }),
    [],
  );
  assert.deepEqual(profile({ osDiskSizeGB: -1 }), ['properties.vmProfile.osDiskSizeGB']);
  assert.deepEqual(profile({ osDiskSizeGB: '30' }), ['properties.vmProfile.osDiskSizeGB']);
  assert.deepEqual(profile({ vnetConfig: { containerInstanceSubnetId: subnet, proxyVmSize: 'Standard_A1_v2' } }), [
    'properties.vmProfile.vnetConfig',
    'properties.vmProfile.vnetConfig',
  ]);
  assert.deepEqual(profile({ vnetConfig: { subnetId: 'subnet' } }), ['properties.vmProfile.vnetConfig.subnetId']);
});

test('a managed image has a name that Compute takes', () => {
  const image = (name: string) => [
    { type: 'ManagedImage', runOutputName: 'o', imageId: IMAGE.replace(/web$/, name), location: 'eastus' },
  ];
  for (const name of ['bad name!', '_x', 'x.', 'a'.repeat(81)])
    assert.deepEqual(paths(template({ distribute: image(name) })), ['properties.distribute[0].imageId'], name);
  assert.deepEqual(paths(template({ distribute: image('a-good_name.1') })), []);
});

test('no two distributors publish to one image, version or blob', () => {
  const image = { type: 'ManagedImage', imageId: IMAGE, location: 'eastus' };
  const version = { type: 'SharedImage', galleryImageId: `${DEFINITION}/versions/1.0.0` };
  const newest = { type: 'SharedImage', galleryImageId: DEFINITION };
  const blob = { type: 'VHD', uri: 'https://a.blob.core.windows.net/vhds/web.vhd?sig=secret' };
  const twice = (one: object, other: object) =>
    check(template({ distribute: [one, other].map((target, index) => ({ runOutputName: `o${index}`, ...target })) }))
      .violations;
  for (const [one, other, field] of [
    [image, { ...image, location: 'westus' }, 'imageId'],
    [image, { ...image, imageId: `${IMAGE.toUpperCase()}/` }, 'imageId'],
    [version, { ...version, galleryImageId: `${DEFINITION}/versions/01.0.0` }, 'galleryImageId'],
    [blob, { ...blob, uri: 'https://A.blob.core.windows.net:443/vhds/web.vhd?sig=secret2' }, 'uri'],
  ] as const) {
    const [violation, ...more] = twice(one, other);
    assert.deepEqual([violation?.path, more], [`properties.distribute[1].${field}`, []]);
    assert.match(violation?.hint ?? '', /^distribute\[0\] publishes to it already/);
    assert.ok(!JSON.stringify(violation).includes('secret'));
  }
  for (const [one, other] of [
    [newest, newest],
    [newest, version],
    [{ type: 'VHD' }, { type: 'VHD', uri: '' }],
    [image, { ...image, imageId: `${IMAGE}2` }],
  ] as const)
    assert.deepEqual(twice(one, other), []);
});

test('a staging resource group is the id of a group, with or without its first slash', () => {
  const group = (stagingResourceGroup: unknown) => paths(template({ stagingResourceGroup }));
  for (const id of ['', '/subscriptions/s/resourceGroups/g', 'subscriptions/s/resourcegroups/g/'])
    assert.deepEqual(group(id), [], id);
  for (const id of ['g', '/subscriptions/s', IMAGE, '/subscriptions/s/resourceGroups/', 7])
    assert.deepEqual(group(id), ['properties.stagingResourceGroup'], String(id));
});

test('an unknown property is ignored with a warning before 2024-02-01, and refused in the words of the service since', () => {
  const body = template({ optimize: { vmboot: { state: 'Enabled' } }, colour: 'blue' });
  const old = check(body, { apiVersion: '2023-07-01' });
  assert.deepEqual(old.violations, []);
  assert.deepEqual(old.warnings, ['properties.colour is not known in api-version 2023-07-01 and is ignored.']);
  assert.deepEqual(
    old.template.properties.optimize,
    { vmBoot: { state: 'Enabled' } },
    'names were case-insensitive then',
  );
  assert.equal(
    check(body, { apiVersion: '2024-02-01' }).violations.find(
      violation => violation.path === 'properties.optimize.vmboot',
    )?.message,
    'Unmarshalling entity encountered error: unmarshalling type *v2024_02_01.ImageTemplate: struct field Properties: unmarshalling type *v2024_02_01.ImageTemplateProperties: struct field Optimize: unmarshalling type *v2024_02_01.ImageTemplatePropertiesOptimize: unmarshalling type *v2024_02_01.ImageTemplatePropertiesOptimize, unknown field "vmboot". There is an issue with the syntax with the JSON template you are submitting. Please check the JSON template for syntax and grammar. For more information on the syntax and grammar of the JSON template, visit http://aka.ms/azvmimagebuildertmplref.',
  );
});

test('a property newer than the api-version is an unknown one', () => {
  const body = template({ additionalDataDisks: [{ sizeGB: 4 }] });
  assert.deepEqual(paths(body), []);
  assert.deepEqual(paths(body, { apiVersion: '2024-02-01' }), ['properties.additionalDataDisks']);
  assert.match(
    check(body, { apiVersion: '2023-07-01' }).warnings[0] ?? '',
    /^properties\.additionalDataDisks is not known/,
  );
});

test('read-only properties and those of Resource Manager are taken and dropped', () => {
  const body = template(
    { source: { ...SOURCE, exactVersion: '1.0.0' }, provisioningState: 'Succeeded', lastRunStatus: {} },
    { type: 't', apiVersion: 'a', dependsOn: [], name: 'n' },
  );
  const { violations, template: checked } = check(body);
  assert.deepEqual(violations, []);
  assert.deepEqual(Object.keys(checked).sort(), ['identity', 'location', 'properties']);
  assert.deepEqual(checked.properties, { source: SOURCE, distribute: [VHD] });
});

test('a uri names a blob, has nothing but a signature, and the signature is in no complaint', () => {
  const complaint = (uri: string) => check(template({ distribute: [{ ...VHD, uri }] })).violations[0]?.message;
  for (const uri of [
    'https://acct.blob.core.windows.net/vhds/image.vhd',
    'https://acct.blob.core.windows.net/vhds/a/b/image.vhd?sv=2021-12-02&sig=c2VjcmV0',
    'http://127.0.0.1:10000/devstoreaccount1/vhds/image.vhd?sig=c2VjcmV0',
    '',
  ])
    assert.equal(complaint(uri), undefined, uri);
  for (const uri of [
    'not a url?sig=c2VjcmV0',
    'ftp://acct.blob.core.windows.net/vhds/image.vhd?sig=c2VjcmV0',
    'file:///vhds/image.vhd?sig=c2VjcmV0',
    'https://acct.blob.core.windows.net/vhds?sig=c2VjcmV0',
    'https://acct.blob.core.windows.net/vhds/?sig=c2VjcmV0',
    'https://acct.blob.core.windows.net/vhds/image.vhd?comp=lease&sig=c2VjcmV0',
    'https://user:word@acct.blob.core.windows.net/vhds/image.vhd?sig=c2VjcmV0',
    'https://acct.blob.core.windows.net/vhds/image.vhd?sig=c2VjcmV0#part',
  ]) {
    const said = complaint(uri);
    assert.match(said ?? '', /Field 'uri' has a bad value/, uri);
    assert.ok(!said!.includes('c2VjcmV0'), said);
  }
});

test('names', () => {
  assert.equal(checkTemplateName('a-b_c.1'), undefined);
  assert.equal(checkTemplateName('a b')?.path, 'name');
  assert.ok(checkTemplateName('x'.repeat(65)));
});

test('defaults are those that the service echoes', () => {
  const { template: checked } = check(
    template({
      customize: [{ type: 'Shell', scriptUri: 'https://h/s', sha256Checksum: 'A'.repeat(64) }],
      distribute: [
        VHD,
        { type: 'SharedImage', runOutputName: 'o', galleryImageId: DEFINITION, targetRegions: [{ name: 'East US 2' }] },
      ],
      vmProfile: {},
    }),
  );
  const normal = normaliseTemplate(checked, NEWEST_API_VERSION);
  assert.deepEqual(normal.tags, {});
  assert.deepEqual(normal.properties, {
    source: { ...SOURCE, exactVersion: 'latest' },
    customize: [{ type: 'Shell', scriptUri: 'https://h/s', sha256Checksum: 'a'.repeat(64) }],
    distribute: [
      { ...VHD, artifactTags: {} },
      {
        type: 'SharedImage',
        runOutputName: 'o',
        galleryImageId: DEFINITION,
        targetRegions: [{ name: 'eastus2', replicaCount: 1, storageAccountType: 'Standard_LRS' }],
        artifactTags: {},
        excludeFromLatest: false,
      },
    ],
    vmProfile: { vmSize: '', osDiskSizeGB: 0 },
    buildTimeoutInMinutes: 0,
    stagingResourceGroup: '',
  });
  const echo = echoProperties({ ...normal.properties, provisioningState: 'Succeeded' }, '2022-07-01');
  assert.equal((echo.distribute as JsonObject[])[1]?.versioning, null);
  assert.equal(echo.provisioningState, 'Succeeded');
  const older = echoProperties({ ...normal.properties, customize: [], autoRun: { state: 'Enabled' } }, '2021-10-01');
  assert.ok(!('customize' in older) && !('stagingResourceGroup' in older) && !('autoRun' in older));
  assert.ok(!('targetRegions' in (older.distribute as JsonObject[])[1]!));
});

test('checksums are compared in lower case, wherever a template has one', () => {
  const sha256Checksum = 'A'.repeat(64);
  const step = { type: 'Shell', scriptUri: 'https://h/s', sha256Checksum };
  const { customize, validate, optimize } = normaliseTemplate(
    check(
      template({
        customize: [step],
        validate: { inVMValidations: [step] },
        optimize: { vmBoot: { state: 'Enabled' }, workload: { ...step, type: undefined, state: 'Enabled' } },
      }),
    ).template,
    NEWEST_API_VERSION,
  ).properties;
  const lower = 'a'.repeat(64);
  assert.deepEqual(
    [customize[0], validate?.inVMValidations?.[0], optimize?.workload].map(
      one => (one as { sha256Checksum?: string } | undefined)?.sha256Checksum,
    ),
    [lower, lower, lower],
  );
  assert.deepEqual(optimize?.vmBoot, { state: 'Enabled' });
});

test('an id with a slash at its end is kept without it', () => {
  const image = { type: 'ManagedImage', runOutputName: 'image', imageId: `${IMAGE}/`, location: 'eastus' };
  const version = { type: 'SharedImage', runOutputName: 'version', galleryImageId: `${DEFINITION}/versions/1.0.0/` };
  const normal = (properties: JsonObject) =>
    normaliseTemplate(check(template(properties)).template, NEWEST_API_VERSION).properties;
  const source = (given: JsonObject) => normal({ source: given }).source;
  assert.deepEqual(source({ type: 'ManagedImage', imageId: `${IMAGE}/` }), { type: 'ManagedImage', imageId: IMAGE });
  for (const id of [`${DEFINITION}/versions/latest`, '/sharedGalleries/s-gallery/images/web/versions/latest'])
    assert.deepEqual(source({ type: 'SharedImageVersion', imageVersionId: `${id}/` }), {
      ...{ type: 'SharedImageVersion', imageVersionId: id, exactVersion: id },
    });
  const [first, second] = normal({ distribute: [image, version] }).distribute;
  assert.equal(first?.type === 'ManagedImage' && first.imageId, IMAGE);
  assert.equal(second?.type === 'SharedImage' && second.galleryImageId, `${DEFINITION}/versions/1.0.0`);
});

test('what cannot be built is refused or warned about, never skipped in silence', () => {
  const found = (properties: JsonObject) =>
    unsupported(normaliseTemplate(check(template(properties)).template, NEWEST_API_VERSION), { local: true });
  assert.deepEqual(found({}), { refusals: [], warnings: [] });
  const refusals = found({
    customize: [
      { type: 'Shell', inline: ['x'] },
      { type: 'PowerShell', inline: ['x'] },
      { type: 'WindowsRestart' },
      { type: 'WindowsUpdate' },
    ],
    validate: {
      inVMValidations: [
        { type: 'Shell', inline: ['x'] },
        { type: 'PowerShell', inline: ['x'] },
      ],
    },
    additionalDataDisks: [{ sizeGB: 1 }, {}, { sizeGB: 32_768 }],
  }).refusals;
  assert.deepEqual(
    refusals.map(error => error.target),
    [
      'properties.customize[1]',
      'properties.customize[2]',
      'properties.customize[3]',
      'properties.validate.inVMValidations[1]',
      'properties.additionalDataDisks[1].sizeGB',
      'properties.additionalDataDisks[2].sizeGB',
    ],
  );
  // A VHD is one disk.
  assert.deepEqual(
    found({ additionalDataDisks: [{ sizeGB: 1 }] }).warnings.map(line => line.split(' ')[0]),
    ['properties.distribute[0]'],
  );
  const many = found({ additionalDataDisks: Array.from({ length: 65 }, () => ({ sizeGB: 1 })) }).refusals;
  assert.deepEqual(
    many.map(error => error.target),
    ['properties.additionalDataDisks'],
  );
  const optimize = { vmBoot: { state: 'Enabled' } };
  const { warnings } = found({
    optimize,
    validate: { sourceValidationOnly: true },
    errorHandling: { onCustomizerError: 'abort' },
    stagingResourceGroup: '/subscriptions/s/resourceGroups/staging',
  });
  assert.deepEqual(
    warnings.map(line => line.split(' ')[0]),
    [
      'properties.validate.sourceValidationOnly',
      'properties.errorHandling.onCustomizerError',
      'properties.stagingResourceGroup',
    ],
  );
  const vhd = { type: 'VHD', runOutputName: 'vhd' };
  const image = { type: 'ManagedImage', runOutputName: 'image', imageId: 'i', location: 'eastus' };
  assert.match(found({ optimize, distribute: [vhd] }).warnings.join(), /^properties\.optimize has no effect: /);
  assert.deepEqual(found({ optimize, distribute: [vhd, image] }).warnings, []);
});

test('a gallery version is numbered as the template says, else as its api-version did', () => {
  const choice = (more: JsonObject, apiVersion: string) =>
    versionChoice({ type: 'SharedImage', runOutputName: 'o', galleryImageId: DEFINITION, ...more }, apiVersion);
  assert.deepEqual(choice({}, '2022-07-01'), { scheme: 'latest' });
  assert.deepEqual(choice({}, '2021-10-01'), { scheme: 'legacy' });
  assert.deepEqual(choice({ versioning: { scheme: 'Latest', major: 3 } }, '2022-07-01'), {
    scheme: 'latest',
    major: 3,
  });
  assert.deepEqual(choice({ versioning: { scheme: 'Source' } }, '2022-07-01'), { scheme: 'source' });
  assert.equal(choice({ galleryImageId: `${DEFINITION}/versions/1.2.3` }, '2022-07-01').explicit, '1.2.3');
});

test('any JSON value is answered with violations, never with an exception', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(...IMAGE_BUILDER_API_VERSIONS), (value, apiVersion) => {
      assert.ok(check(value, { apiVersion }).violations.length > 0);
    }),
  );
});

test('a template with any part replaced by any value is found wrong, or can be normalised', () => {
  const whole = template({
    customize: [
      { type: 'Shell', inline: ['x'] },
      { type: 'File', sourceUri: 'https://h/f', destination: '/tmp/f' },
    ],
    distribute: [
      VHD,
      {
        type: 'SharedImage',
        runOutputName: 'o',
        galleryImageId: DEFINITION,
        targetRegions: [{ name: 'eastus' }],
        versioning: { scheme: 'Latest' },
      },
    ],
    validate: { inVMValidations: [{ type: 'Shell', inline: ['x'] }] },
    vmProfile: { vnetConfig: { subnetId: '' } },
    managedResourceTags: { a: 'b' },
  });
  const places: (readonly (string | number)[])[] = [];
  const walk = (value: unknown, path: readonly (string | number)[]): void => {
    if (path.length > 0) places.push(path);
    if (Array.isArray(value)) for (const [index, item] of value.entries()) walk(item, [...path, index]);
    else if (typeof value === 'object' && value !== null)
      for (const [key, item] of Object.entries(value)) walk(item, [...path, key]);
  };
  walk(whole, []);
  fc.assert(
    fc.property(
      fc.constantFrom(...places),
      fc.jsonValue(),
      fc.constantFrom(...IMAGE_BUILDER_API_VERSIONS),
      (place, value, apiVersion) => {
        const mutated = structuredClone(whole);
        let target = mutated as never as Record<string | number, unknown>;
        for (const segment of place.slice(0, -1)) target = target[segment] as typeof target;
        target[place.at(-1)!] = value;
        const result = check(mutated, { apiVersion });
        if (result.violations.length === 0) {
          const normal = normaliseTemplate(result.template, apiVersion);
          unsupported(normal, { local: true });
          echoProperties(normal.properties as unknown as JsonObject, apiVersion);
        }
      },
    ),
    { numRuns: 1000 },
  );
});
