/** Image templates for the fuzz test: valid ones of every api-version, and what becomes of them when something goes wrong in them. */
import fc from 'fast-check';

/** Where a generated template may point: things that the test has made. */
export interface Places {
  /** `/subscriptions/S/resourceGroups/G`. */
  readonly group: string;
  readonly identityId: string;
  readonly definitionId: string;
  /** Of a server that gives scripts. */
  readonly files: string;
}

/** Newest first: the versions that a front door answers for. */
export const API_VERSIONS = [
  '2025-10-01',
  '2024-02-01',
  '2023-07-01',
  '2022-07-01',
  '2022-02-14',
  '2021-10-01',
  '2020-02-14',
  '2019-05-01-preview',
] as const;

/** From here on members that nobody knows are refused. */
export const STRICT_SINCE = '2024-02-01';

type Arbitrary = fc.Arbitrary<unknown>;

const word = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_-]{0,11}$/);
const text = fc.oneof(word, fc.string({ maxLength: 30, unit: 'grapheme' }));
const sentence = fc.array(word, { minLength: 1, maxLength: 4 }).map(words => words.join(' '));
const tags = fc.dictionary(word, text, { maxKeys: 3, noNullPrototype: true });
const region = fc.constantFrom('westus', 'eastus2', 'West Europe');
const flag = fc.boolean();

/** A valid template of an api-version; each optional member is sometimes there. */
export function validTemplate(apiVersion: string, places: Places): Arbitrary {
  const since = (version: string, members: Record<string, Arbitrary>) => (apiVersion >= version ? members : {});
  const optional = (required: Record<string, Arbitrary>, more: Record<string, Arbitrary>): Arbitrary =>
    fc.record({ ...required, ...more }, { requiredKeys: Object.keys(required), noNullPrototype: true });
  const type = (name: string) => ({ type: fc.constant(name) });
  const script = fc.oneof(
    fc.record({ inline: fc.array(sentence, { minLength: 1, maxLength: 3 }) }, { noNullPrototype: true }),
    word.map(name => ({ scriptUri: `${places.files}/${name}.sh`, sha256Checksum: '' })),
  );
  const shell = fc.tuple(optional(type('Shell'), { name: text }), script).map(([a, b]) => ({ ...(a as object), ...b }));
  const powerShell = fc
    .tuple(
      optional(type('PowerShell'), { name: text, validExitCodes: fc.array(fc.nat(255), { maxLength: 3 }) }),
      script,
    )
    .map(([a, b]) => ({ ...(a as object), ...b }));
  const file = optional(
    {
      ...type('File'),
      sourceUri: word.map(name => `${places.files}/${name}`),
      destination: word.map(name => `/tmp/${name}`),
    },
    { name: text },
  );
  const customizer = fc.oneof(
    shell,
    file,
    powerShell,
    optional(type('WindowsRestart'), { restartTimeout: fc.constantFrom('5m', '10m') }),
    ...(apiVersion >= '2020-02-14'
      ? [optional(type('WindowsUpdate'), { filters: fc.array(text, { maxLength: 2 }), updateLimit: fc.nat(1000) })]
      : []),
  );
  const output = (kind: string) => ({ ...type(kind), runOutputName: word });
  const distributor = fc.oneof(
    // No two targets are one image.
    optional({ ...output('ManagedImage'), location: region }, { artifactTags: tags }).map(value => {
      const imageId = `${places.group}/providers/Microsoft.Compute/images/${(value as { runOutputName: string }).runOutputName}1`;
      return { ...(value as object), imageId };
    }),
    optional(
      { ...output('SharedImage'), galleryImageId: fc.constant(places.definitionId) },
      {
        artifactTags: tags,
        ...since('2020-02-14', { excludeFromLatest: flag }),
        ...since('2022-07-01', { versioning: fc.constantFrom({ scheme: 'Latest', major: 1 }, { scheme: 'Source' }) }),
      },
    ).chain(value =>
      (apiVersion >= '2022-07-01'
        ? fc.constantFrom({ targetRegions: [{ name: 'westus', replicaCount: 2 }] }, { replicationRegions: ['westus'] })
        : fc.constant({ replicationRegions: ['westus'] })
      ).map(regions => ({ ...(value as object), ...regions })),
    ),
    optional(output('VHD'), { artifactTags: tags }),
  );
  const properties = optional(
    {
      source: fc.constant({
        type: 'PlatformImage',
        publisher: 'Canonical',
        offer: 'UbuntuServer',
        sku: '18.04-LTS',
        version: 'latest',
      }),
      distribute: fc.uniqueArray(distributor, {
        minLength: 1,
        maxLength: 3,
        selector: one => (one as { runOutputName: string }).runOutputName.toLowerCase(),
      }),
    },
    {
      customize: fc.array(customizer, { maxLength: 3 }),
      buildTimeoutInMinutes: fc.constantFrom(0, 6, 240, 960),
      vmProfile: optional(
        {},
        {
          vmSize: fc.constantFrom('', 'Standard_D1_v2'),
          ...since('2020-02-14', { osDiskSizeGB: fc.constantFrom(0, 30, 64) }),
        },
      ),
      ...since('2022-02-14', {
        stagingResourceGroup: fc.constant(''),
        validate: optional(
          {},
          { continueDistributeOnFailure: flag, inVMValidations: fc.array(shell, { maxLength: 1 }) },
        ),
      }),
      ...since('2022-07-01', { optimize: fc.constantFrom({}, { vmBoot: { state: 'Enabled' } }) }),
      ...since('2023-07-01', {
        errorHandling: fc.constantFrom({ onCustomizerError: 'abort' }, { onValidationError: 'cleanup' }),
      }),
      ...since('2024-02-01', { autoRun: fc.constant({ state: 'Disabled' }), managedResourceTags: tags }),
      ...since('2025-10-01', { additionalDataDisks: fc.constantFrom([], [{ sizeGB: 10 }]) }),
    },
  );
  const identity = fc.constant({ type: 'UserAssigned', userAssignedIdentities: { [places.identityId]: {} } });
  return optional({ location: region, identity, properties }, { tags });
}

/** Values that are not what stands there, or too much of it. */
const STRANGE: Arbitrary = fc.oneof(
  fc.constantFrom(null, true, false, 0, -1, 1.5, 1e308, 2 ** 53, '', ' ', '0', 'true', [], {}, [[]], [null], [{}]),
  fc.constantFrom(
    '\u0000',
    '\ud800',
    '\u202e',
    '👩‍👩‍👧‍👦',
    "'; drop table resource; --",
    '../../../etc/passwd',
    '%s%n',
    '$(id)',
  ),
  fc.constantFrom(
    'x'.repeat(100_000),
    Array.from({ length: 2000 }, () => 'y'),
  ),
  fc.constantFrom(
    'file:///etc/passwd',
    'http://[::1',
    'javascript:alert(1)',
    '/subscriptions/s/resourceGroups/g',
    '//',
  ),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.jsonValue({ maxDepth: 4 }),
);

const KEYS = fc.oneof(
  fc.constantFrom(
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    '',
    'Type',
    'LOCATION',
    '$ref',
  ),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
);

export interface Mutation {
  /** Which of the places in the value, counted through it (modulo their number). */
  readonly place: number;
  readonly kind: 'drop' | 'replace' | 'rename' | 'nest' | 'null' | 'add' | 'repeat' | 'case';
  readonly key: string;
  readonly value: unknown;
}

export const mutation: fc.Arbitrary<Mutation> = fc.record({
  place: fc.nat(10_000),
  kind: fc.constantFrom('drop', 'replace', 'replace', 'rename', 'nest', 'null', 'add', 'repeat', 'case'),
  key: KEYS,
  value: STRANGE,
});

const WORDS = new Map(
  `location tags identity properties type userAssignedIdentities source publisher offer sku version customize distribute name inline scriptUri sourceUri
  destination sha256Checksum runElevated runAsSystem validExitCodes restartTimeout filters updateLimit runOutputName imageId galleryImageId artifactTags
  replicationRegions excludeFromLatest versioning scheme major targetRegions replicaCount buildTimeoutInMinutes vmProfile vmSize osDiskSizeGB
  stagingResourceGroup validate continueDistributeOnFailure inVMValidations optimize vmBoot state errorHandling onCustomizerError onValidationError
  autoRun managedResourceTags additionalDataDisks sizeGB`
    .split(/\s+/)
    .map(name => [name.toLowerCase(), name]),
);

/**
 * A template with the names of its members as they are documented: until {@link STRICT_SINCE} they may be written in any case. undefined where one is there
 * twice: which one counts is nobody's promise.
 */
export function documentedNames(value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = value.map(documentedNames);
    return items.includes(undefined) ? undefined : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).map(([name, member]): [string, unknown] => [
    WORDS.get(name.toLowerCase()) ?? name,
    documentedNames(member),
  ]);
  const twice = new Set(members.map(([name]) => name)).size < members.length;
  return twice || members.some(([, member]) => member === undefined) ? undefined : Object.fromEntries(members);
}

type Container = Record<string, unknown> | unknown[];

/** A copy with one thing changed in it. */
export function mutate(value: unknown, { place, kind, key, value: strange }: Mutation): unknown {
  const copy = structuredClone(value);
  const places: [Container, string | number][] = [];
  const visit = (container: Container): void => {
    for (const name of Object.keys(container)) {
      places.push([container, Array.isArray(container) ? Number(name) : name]);
      const member = (container as Record<string, unknown>)[name];
      if (typeof member === 'object' && member !== null) visit(member as Container);
    }
  };
  if (typeof copy === 'object' && copy !== null) visit(copy as Container);
  if (places.length === 0) return strange;
  const [container, at] = places[place % places.length]!;
  const current = (container as Record<string | number, unknown>)[at];
  // An own member of any name: plain assignment to `__proto__` would be none.
  const set = (name: string | number, member: unknown) =>
    Object.defineProperty(container, name, { value: member, enumerable: true, configurable: true, writable: true });
  const remove = () => {
    if (Array.isArray(container)) container.splice(Number(at), 1);
    else delete container[at];
  };
  switch (kind) {
    case 'drop':
      remove();
      break;
    case 'replace':
      set(at, strange);
      break;
    case 'null':
      set(at, null);
      break;
    case 'nest':
      set(at, Array.isArray(current) ? { value: current } : [current]);
      break;
    case 'add':
      if (Array.isArray(container)) container.push(strange);
      else set(key, strange);
      break;
    case 'rename':
      remove();
      if (Array.isArray(container)) container.unshift(current);
      else set(key, current);
      break;
    case 'case':
      if (Array.isArray(container)) container.reverse();
      else {
        remove();
        set(String(at).toUpperCase(), current);
      }
      break;
    case 'repeat':
      if (Array.isArray(container)) container.push(...Array.from({ length: 50 }, () => current));
      else for (let n = 0; n < 50; n++) set(`${at}${n}`, current);
  }
  return copy;
}
