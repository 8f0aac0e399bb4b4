/**
 * Every property of the contract (1.3), in templates that use all of them: each is known since its api-version, and none takes a value of another JSON type. What
 * type that is, is read from these templates and not from the schema under test.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isSince } from '../../arm/api-versions.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { IMAGE_BUILDER_API_VERSIONS, NEWEST_API_VERSION, STRICT_SINCE } from './api-versions.ts';
import { echoProperties, normaliseTemplate } from './normalise.ts';
import { validateTemplate } from './validate.ts';

const GROUP = '/subscriptions/s/resourceGroups/g';
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
const GALLERY = `${GROUP}/providers/Microsoft.Compute/galleries/gallery/images`;
const NETWORK = `${GROUP}/providers/Microsoft.Network/virtualNetworks/v/subnets`;
const SUM = 'a'.repeat(64);
const script = { scriptUri: 'https://h/s', sha256Checksum: SUM };
const powerShell = { inline: ['x'], runElevated: true, runAsSystem: true, validExitCodes: [0, 3010] };

const envelope = {
  location: 'eastus',
  tags: { a: 'b' },
  identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
};

const FULL: readonly JsonObject[] = [
  {
    ...envelope,
    properties: {
      source: {
        type: 'PlatformImage',
        publisher: 'p',
        offer: 'o',
        sku: 's',
        version: 'latest',
        planInfo: { planName: 'n', planProduct: 'p', planPublisher: 'q' },
      },
      customize: [
        { type: 'Shell', name: 'n', ...script },
        { type: 'Shell', name: 'n', inline: ['x', 'y'] },
        { type: 'PowerShell', name: 'n', ...powerShell },
        { type: 'PowerShell', name: 'n', ...script },
        { type: 'File', name: 'n', sourceUri: 'https://h/f', sha256Checksum: SUM, destination: '/tmp/f' },
        { type: 'WindowsRestart', name: 'n', restartCommand: 'c', restartCheckCommand: 'd', restartTimeout: '5m' },
        { type: 'WindowsUpdate', name: 'n', searchCriteria: 'c', filters: ['f'], updateLimit: 20 },
      ],
      optimize: { vmBoot: { state: 'Enabled' }, workload: { state: 'Disabled', ...script } },
      validate: {
        continueDistributeOnFailure: true,
        sourceValidationOnly: false,
        inVMValidations: [
          { type: 'Shell', name: 'n', ...script },
          { type: 'PowerShell', name: 'n', ...powerShell },
          { type: 'File', name: 'n', sourceUri: 'https://h/f', sha256Checksum: SUM, destination: '/tmp/f' },
        ],
      },
      distribute: [
        {
          type: 'ManagedImage',
          runOutputName: 'a',
          artifactTags: { a: 'b' },
          imageId: `${GROUP}/providers/Microsoft.Compute/images/i`,
          location: 'westus',
        },
        {
          type: 'SharedImage',
          runOutputName: 'b',
          galleryImageId: `${GALLERY}/d`,
          excludeFromLatest: true,
          targetRegions: [{ name: 'eastus', replicaCount: 2, storageAccountType: 'Premium_LRS' }],
          versioning: { scheme: 'Latest', major: 1 },
          replicationMode: 'Shallow',
        },
        {
          type: 'SharedImage',
          runOutputName: 'c',
          galleryImageId: `${GALLERY}/e/versions/1.2.3`,
          replicationRegions: ['eastus', 'West US'],
          storageAccountType: 'Standard_ZRS',
        },
        { type: 'SharedImage', runOutputName: 'e', galleryImageId: `${GALLERY}/f`, versioning: { scheme: 'Source' } },
        { type: 'VHD', runOutputName: 'd', uri: 'https://h/vhds/d.vhd' },
      ],
      errorHandling: { onCustomizerError: 'abort', onValidationError: 'cleanup' },
      buildTimeoutInMinutes: 80,
      vmProfile: {
        vmSize: 'Standard_D2ds_v4',
        osDiskSizeGB: 40,
        userAssignedIdentities: [IDENTITY],
        vnetConfig: { subnetId: `${NETWORK}/a`, containerInstanceSubnetId: `${NETWORK}/b` },
      },
      additionalDataDisks: [{ sizeGB: 8 }],
      stagingResourceGroup: `${GROUP}-staging`,
      autoRun: { state: 'Enabled' },
      managedResourceTags: { a: 'b' },
    },
  },
  {
    ...envelope,
    properties: {
      source: { type: 'ManagedImage', imageId: `${GROUP}/providers/Microsoft.Compute/images/i` },
      distribute: [{ type: 'VHD', runOutputName: 'd' }],
      vmProfile: { vnetConfig: { subnetId: `${NETWORK}/a`, proxyVmSize: 'Standard_A1_v2' } },
    },
  },
  {
    ...envelope,
    properties: {
      source: { type: 'SharedImageVersion', imageVersionId: `${GALLERY}/d/versions/latest` },
      distribute: [{ type: 'VHD', runOutputName: 'd' }],
    },
  },
];

const check = (body: unknown, apiVersion: string = NEWEST_API_VERSION) => validateTemplate(body, { apiVersion });

type Place = readonly (string | number)[];

/** Every place in a value but the value itself. */
function placesOf(value: unknown, path: Place = []): Place[] {
  const inner =
    typeof value === 'object' && value !== null
      ? Object.entries(value).map(([key, item]) => [Array.isArray(value) ? Number(key) : key, item] as const)
      : [];
  return [...(path.length > 0 ? [path] : []), ...inner.flatMap(([key, item]) => placesOf(item, [...path, key]))];
}

const at = (value: unknown, place: Place): unknown =>
  place.reduce<unknown>((part, segment) => (part as Record<string | number, unknown>)[segment], value);

function replaced(whole: JsonObject, place: Place, value: unknown): JsonObject {
  const copy = structuredClone(whole);
  (at(copy, place.slice(0, -1)) as Record<string | number, unknown>)[place.at(-1)!] = value;
  return copy;
}

const typeOf = (value: unknown): string => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value);

const PLACES = FULL.flatMap(whole => placesOf(whole).map(place => ({ whole, place })));

test('templates that use everything are valid, and shown as they were written', () => {
  for (const whole of FULL) {
    const { violations, template } = check(whole);
    assert.deepEqual(violations, []);
    assert.deepEqual(template, whole);
    const echo = echoProperties(
      normaliseTemplate(template, NEWEST_API_VERSION).properties as unknown as JsonObject,
      NEWEST_API_VERSION,
    );
    for (const place of placesOf(whole.properties)) {
      const written = at(whole.properties, place);
      if (typeOf(written) !== 'object' && typeOf(written) !== 'array' && written !== 'West US')
        assert.equal(at(echo, place), written, place.join('.'));
    }
  }
});

/** Where contract 1.3 gives a "since" later than the oldest api-version. */
const SINCE: Readonly<Record<string, string>> = {
  'customize.2.runAsSystem': '2020-02-14',
  'customize.6': '2020-02-14',
  'distribute.1.excludeFromLatest': '2020-02-14',
  'distribute.2.storageAccountType': '2020-02-14',
  'source.planInfo': '2020-02-14',
  'vmProfile.osDiskSizeGB': '2020-02-14',
  'vmProfile.vnetConfig': '2020-02-14',
  'vmProfile.userAssignedIdentities': '2021-10-01',
  stagingResourceGroup: '2022-02-14',
  validate: '2022-02-14',
  'distribute.1.targetRegions': '2022-07-01',
  'distribute.1.versioning': '2022-07-01',
  'distribute.4.uri': '2022-07-01',
  optimize: '2022-07-01',
  'validate.inVMValidations.2': '2022-07-01',
  errorHandling: '2023-07-01',
  autoRun: '2024-02-01',
  managedResourceTags: '2024-02-01',
  'vmProfile.vnetConfig.containerInstanceSubnetId': '2024-02-01',
  additionalDataDisks: '2025-10-01',
  'distribute.1.replicationMode': '2025-10-01',
  'optimize.workload': '2025-10-01',
};

test('each property is known since its api-version, and not before', () => {
  const properties = FULL[0]!.properties as JsonObject;
  for (const [path, since] of Object.entries(SINCE)) {
    const place = path.split('.').map(segment => (/^\d+$/.test(segment) ? Number(segment) : segment));
    assert.notEqual(at(properties, place), undefined, path);
    for (const apiVersion of IMAGE_BUILDER_API_VERSIONS) {
      const { violations, warnings, template } = check(FULL[0], apiVersion);
      const dotted = ['properties', ...place].join('.').replace(/\.(\d+)/g, '[$1]');
      // A part of a part that is not known itself is not looked at.
      const outer = Object.keys(SINCE).find(one => path.startsWith(`${one}.`) && !isSince(apiVersion, SINCE[one]!));
      if (outer) continue;
      const told = [...violations.map(one => one.path), ...warnings.map(one => one.split(' ')[0]!)];
      const known = !told.some(one => one === dotted || one === `${dotted}.type`);
      assert.equal(known, isSince(apiVersion, since), `${path} in ${apiVersion}: ${told.join(', ')}`);
      if (!known && !isSince(apiVersion, STRICT_SINCE))
        assert.equal(at(template.properties, place), undefined, `${path} in ${apiVersion}`);
    }
  }
});

test('a value of another JSON type is refused everywhere', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...PLACES),
      fc.oneof(
        fc.string(),
        fc.integer(),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.boolean(),
        fc.array(fc.jsonValue()),
        fc.dictionary(fc.string(), fc.jsonValue()),
      ),
      ({ whole, place }, value) => {
        fc.pre(typeOf(value) !== typeOf(at(whole, place)));
        assert.notDeepEqual(check(replaced(whole, place, value)).violations, [], place.join('.'));
      },
    ),
    { numRuns: 3000 },
  );
});

test('whole numbers stay whole and in 32 bits', () => {
  for (const { whole, place } of PLACES.filter(one => typeof at(one.whole, one.place) === 'number'))
    for (const value of [1.5, 2 ** 31, -(2 ** 31) - 1, 1e300])
      assert.notDeepEqual(check(replaced(whole, place, value)).violations, [], place.join('.'));
});

test('a name in another case is refused where case matters, and means the same where it does not', () => {
  for (const { whole, place } of PLACES) {
    const name = place.at(-1)!;
    const [first, second] = place;
    // Of maps the keys are anybody's.
    if (typeof name === 'number' || first === 'tags' || /Tags$/.test(String(place.at(-2)))) continue;
    if (name === IDENTITY || second === 'managedResourceTags' || name.toUpperCase() === name) continue;
    const inner = at(whole, place.slice(0, -1)) as JsonObject;
    const renamed = Object.fromEntries(
      Object.entries(inner).map(([key, item]) => [key === name ? key.toUpperCase() : key, item]),
    );
    const body = place.length === 1 ? renamed : replaced(whole, place.slice(0, -1), renamed);
    assert.notDeepEqual(check(body).violations, [], place.join('.'));
    const old = check(body, '2023-07-01');
    assert.deepEqual(
      { violations: old.violations, template: old.template },
      { violations: [], template: check(whole, '2023-07-01').template },
      place.join('.'),
    );
  }
});

test('mutations upon mutations never throw', () => {
  const hostile = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom<unknown>(null, '', '\0', '\ud800', '__proto__', 'x'.repeat(100_000), -0, 1e308, [], {}),
    fc.constant(JSON.parse('{"__proto__": {"type": "VHD"}, "constructor": {"prototype": 1}}')),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...FULL),
      fc.array(fc.tuple(fc.nat(), fc.option(hostile, { nil: undefined })), { minLength: 1, maxLength: 5 }),
      fc.constantFrom(...IMAGE_BUILDER_API_VERSIONS),
      (whole, mutations, apiVersion) => {
        let body = structuredClone(whole);
        for (const [number, value] of mutations) {
          const places = placesOf(body);
          if (places.length > 0) body = replaced(body, places[number % places.length]!, value);
        }
        const { violations, template } = check(body, apiVersion);
        if (violations.length === 0) normaliseTemplate(template, apiVersion);
        assert.equal(({} as JsonObject).type, undefined);
      },
    ),
    { numRuns: 1500 },
  );
});
