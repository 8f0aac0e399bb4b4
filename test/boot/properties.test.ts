/**
 * What the properties of a template do, on both machines: a few templates that use many of them (properties-templates.ts) are built on each, one on what came of the other, and
 * what comes of them is looked at (properties-table.ts) and compared. ELSEWHERE are the properties that other tests show; a new one has to get a row, or a place there.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { templateProperties } from '../../src/providers/image-builder/reference/properties.ts';
import { ROOT, temporaryHome } from '../kiln.ts';
import { KINDS, same } from './image-differences.ts';
import { type Built, buildAll, type Machine, type MachineKind } from './properties-builds.ts';
import { ROWS } from './properties-table.ts';
import { resourceOf, TEMPLATES, type TemplateName } from './properties-templates.ts';

/** By the test that shows them: in guests (test/boot), or without, where no machine has a part in it. */
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  // On both machines: the boot proof, and which machine it is.
  'test/boot/container.test.ts': ['tags'],
  // On both.
  'test/boot/optimize.test.ts': ['vmBoot.state', 'workload.state', 'workload.scriptUri'].map(
    name => `properties.optimize.${name}`,
  ),
  'test/wire/optimize.test.ts': ['properties.optimize.workload.sha256Checksum'],
  // In a virtual machine; a container refuses them.
  'test/boot/data-disks.test.ts': ['properties.additionalDataDisks[].sizeGB'],
  // On both; for `kiln build` the command line decides.
  'test/boot/kept.test.ts': [
    'properties.errorHandling.onCustomizerError',
    'properties.errorHandling.onValidationError',
  ],
  'src/providers/image-builder/phases.test.ts': ['properties.buildTimeoutInMinutes'],
  'test/wire/sources.test.ts': ['planName', 'planProduct', 'planPublisher'].map(
    name => `properties.source(PlatformImage).planInfo.${name}`,
  ),
  'test/wire/upload.test.ts': ['properties.distribute[](VHD).uri'],
  'test/wire/vnet.test.ts': ['subnetId', 'containerInstanceSubnetId', 'proxyVmSize'].map(
    name => `properties.vmProfile.vnetConfig.${name}`,
  ),
  'src/providers/image-builder/provider.test.ts': [
    ...['identity.type', 'identity.userAssignedIdentities'],
    ...['identity.userAssignedIdentities.*.principalId', 'identity.userAssignedIdentities.*.clientId'],
    ...[
      ...['stagingResourceGroup', 'exactStagingResourceGroup', 'autoRun.state', 'managedResourceTags'],
      ...['provisioningState', 'provisioningError', 'lastRunStatus', 'vmProfile.userAssignedIdentities'],
    ].map(name => `properties.${name}`),
  ],
  'test/wire/template-reference.test.ts': ['id', 'name', 'type', 'apiVersion', 'dependsOn', 'comments', 'systemData'],
};

/** What a machine says of itself while it starts, and what a boot is called. */
const OF_THE_MACHINE = [
  /^validate kiln No hardware acceleration/,
  /^validate kiln The guest (answers|has settled) after/,
];

/** May differ where the source is an image that was built: cloud-init provisions the virtual machine then, and nothing of it runs in a container. */
const CLOUD_INIT: Readonly<Record<string, string>> = {
  '/etc/hosts':
    'Debian’s cloud-init writes it at every boot (manage_etc_hosts), with the name that the machine has then',
  '/etc/sudoers.d': 'a mode: cloud-init makes it 0750',
  '/var/lib/cloud': 'an empty directory, which cloud-init makes when it runs',
  '/var/tmp/cloud-init': 'an empty directory, which cloud-init makes when it runs',
};

test('every property that concerns a Linux build has a row, or a test that shows it elsewhere', () => {
  const shown = [...ROWS.flatMap(row => row.properties), ...Object.values(ELSEWHERE).flat()];
  const all = templateProperties().filter(({ path }) => !/\((PowerShell|Windows\w+)\)/.test(path));
  // What is only there to hold others is shown with them.
  const left = all.filter(
    ({ path }) => !shown.some(one => one === path || (one.startsWith(path) && /[.([]/.test(one[path.length]!))),
  );
  assert.deepEqual(
    left.map(({ path }) => path),
    [],
    'without a row in properties-table.ts, and not in ELSEWHERE',
  );
  const paths = all.map(({ path }) => path);
  assert.deepEqual(
    shown.filter(path => !paths.includes(path)),
    [],
    'there are no such properties',
  );
  for (const [path, properties] of Object.entries(ELSEWHERE)) {
    assert.ok(existsSync(join(ROOT, path)), `${path} is gone`);
    const text = readFileSync(join(ROOT, path), 'utf8');
    for (const property of properties) assert.ok(text.includes(lastWord(property)), `${path} knows no ${property}`);
  }
});

const lastWord = (property: string) =>
  property
    .split('.')
    .at(-1)!
    .replaceAll(/\[\]|\(.*/g, '');

test('a row is of templates that have its properties', () => {
  const readOnly = templateProperties().flatMap(one => (one.readOnly ? [one.path] : []));
  for (const { shows, properties, is } of ROWS)
    for (const template of Object.keys(is) as TemplateName[]) {
      const used = pathsOf(resourceOf(template));
      const missing = properties.filter(path => !used.includes(path) && !readOnly.includes(path));
      assert.deepEqual(missing, [], `${shows}: ${template}`);
    }
});

/** The paths of the reference that a template has values at. */
function pathsOf(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap(one => pathsOf(one, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [];
  const { type, scheme = path === '' ? undefined : type } = value as { type?: string; scheme?: string };
  const here = scheme === undefined ? path : `${path}(${scheme})`;
  return Object.entries(value).flatMap(([name, member]) => {
    const at = here === '' ? name : `${here}.${name}`;
    return [at, ...pathsOf(member, at)];
  });
}

const root = process.getuid?.() === 0;
const names = Object.keys(TEMPLATES) as TemplateName[];

/** Ten builds, with nine boots among them: minutes, but on a busy host many (ms). */
const timeout = 45 * 60_000;

describe('the properties of templates', { skip: !root && 'mounting disks takes root', concurrency: 1, timeout }, () => {
  const homes: { remove(): Promise<void> }[] = [];
  const machines = new Map<MachineKind, Machine>();
  before(
    async () => {
      for (const kind of ['container', 'vm'] as const) {
        const home = await temporaryHome();
        homes.push(home);
        machines.set(kind, await buildAll(kind, home.path));
      }
    },
    { timeout },
  );
  after(async () => {
    for (const home of homes) await home.remove();
  });

  for (const { shows, seen, is } of ROWS)
    for (const [name, expected] of Object.entries(is) as [TemplateName, unknown][]) {
      const source = TEMPLATES[name].properties.source.type;
      for (const kind of ['container', 'vm'] as const)
        test(`${name}, of a ${source}, on a ${kind}: ${shows}`, () => {
          const machine = machines.get(kind)!;
          assert.deepEqual(seen(machine.builds[name], machine, name), expected);
        });
    }

  const both = () => [machines.get('container')!, machines.get('vm')!] as const;

  for (const name of names)
    test(`${name}: the same end, phases, words and files on both machines`, () => {
      const [container, vm] = both().map(machine => machine.builds[name]) as [Built, Built];
      assert.deepEqual(comparable(vm), comparable(container));
      assert.equal(vm.files === undefined, container.files === undefined);
      if (vm.files) same(vm.files, container.files!, name === 'first' ? KINDS : { ...KINDS, ...CLOUD_INIT });
    });

  test('the same resources and images on both machines, and nothing else', () => {
    const [container, vm] = both();
    assert.deepEqual(vm.resources, container.resources);
    assert.deepEqual(vm.images, container.images);
    assert.deepEqual([vm.left, container.left], [[], []]);
  });
});

/** All of it but its files, which are compared one by one, and what is the machine’s own. */
function comparable({ files: _, phases, said, ...build }: Built) {
  return {
    ...build,
    phases: phases.map(phase => phase.replace(/^boot .*:/, 'boot:')),
    said: said.filter(line => !OF_THE_MACHINE.some(pattern => pattern.test(line))),
  };
}
