/** The table: what each property does, in which of the templates it is seen, and what is seen there, which is the same on both machines. */
import { capped, sizeOf } from '../../src/machines/sizes.ts';
import { sha256 } from './build-template.ts';
import type { Built, Machine } from './properties-builds.ts';
import {
  DISK_GIB,
  definition,
  FILES,
  HERE,
  IMAGE,
  SIZE,
  TAGS,
  type TemplateName,
  THERE,
  templateId,
} from './properties-templates.ts';

export interface Row {
  readonly shows: string;
  /** Paths of the template reference that it shows; none where what is shown has no property. */
  readonly properties: readonly string[];
  readonly seen: (build: Built, machine: Machine, template: TemplateName) => unknown;
  /** By the templates in which it is seen. */
  readonly is: Partial<Record<TemplateName, unknown>>;
}

const GIB = 1024 ** 3;
const SECTOR = 512;
const of = (place: string, kind: string, ...names: string[]) =>
  names.map(name => `properties.${place}(${kind}).${name}`);
const customize = 'customize[]';
const validate = 'validate.inVMValidations[]';
const distribute = 'distribute[]';

/** Without the time of its last change, which files of the source have. */
const file = (build: Built, path: string) => build.files?.get(path)?.replace(/ of \d{4}-.*/, '');
const text = (mode: string, owner: string, content: string) =>
  `file ${mode} ${owner} ${Buffer.byteLength(content)} bytes ${sha256(content)}`;
const words = (...names: TemplateName[]) => text('644', '0:0', names.map(name => `${name}\n`).join(''));
const steps = (build: Built, kind: string) => build.phases.filter(phase => phase.startsWith(kind));
const ended = ({ state, exitCode, error }: Built) => ({ state, exitCode, ...error });
const image = (machine: Machine, output: string) => machine.images.filter(one => one.runOutputName === output);
const correlated = { ...TAGS, correlationId: 'UUID' };

/** Where the root file system ends on the disk (GiB), to a hundredth. */
function rootEnd({ files }: Built): number {
  const [, start, size] = /(\d+) (\d+) \S+ \S+ root/.exec(files!.get('')!)!;
  return Math.round(((Number(start) + Number(size)) * SECTOR * 100) / GIB) / 100;
}

/** The version that a SharedImage target made: its id is the run output’s. */
function versionOf(build: Built, machine: Machine, template: TemplateName) {
  const { artifactId, location } = build.outputs.find(({ name }) => name === `${template}-version`)!;
  const { tags, properties } = machine.resources[artifactId]!;
  const { targetRegions, replicationMode, excludeFromLatest } = properties.publishingProfile;
  const replicas = image(machine, `${template}-version`).map(one => one.location);
  return { artifactId, location, tags, targetRegions, replicationMode, excludeFromLatest, replicas };
}

const region = (name: string, storageAccountType: string, regionalReplicaCount = 1) => ({
  ...{ name, regionalReplicaCount, storageAccountType },
});

export const ROWS: readonly Row[] = [
  {
    shows: 'an image of the marketplace, whose newest version is found at the run and shown',
    properties: of('source', 'PlatformImage', 'type', 'publisher', 'offer', 'sku', 'version', 'exactVersion'),
    seen(_, machine, template) {
      const { source } = image(machine, `${template}-vhd`)[0]!;
      const { exactVersion } = machine.resources[templateId(template)]!.properties.source;
      return [source.name === `Debian:debian-12:12-gen2:${exactVersion}`, source.exactVersion === exactVersion];
    },
    is: { first: [true, true] },
  },
  {
    shows: 'a managed image, with what was put into it',
    properties: of('source', 'ManagedImage', 'type', 'imageId'),
    seen: build => build.facts.words,
    is: { second: 'first second', broken: 'first broken' },
  },
  {
    shows: 'an image version, by its number and as the latest, with what was put into it',
    properties: of('source', 'SharedImageVersion', 'type', 'imageVersionId'),
    seen: build => build.facts.words,
    is: { third: 'first second third', looked: 'first second' },
  },
  {
    shows: 'which version the latest was',
    properties: of('source', 'SharedImageVersion', 'exactVersion'),
    seen: (_, machine, template) => machine.resources[templateId(template)]!.properties.source.exactVersion,
    is: { third: `${definition('second')}/versions/4.0.1` },
  },
  {
    shows: 'where the template is, there are its VHDs',
    properties: ['location'],
    seen: (_, machine, template) => image(machine, `${template}-vhd`).map(one => one.location),
    is: { first: [HERE], second: [THERE], third: [HERE] },
  },
  {
    shows: 'processors and memory',
    properties: ['properties.vmProfile.vmSize'],
    seen: ({ size }) => size,
    is: Object.fromEntries(
      (['first', 'second', 'third', 'broken', 'looked'] as const).map(name => [name, sizeShown()]),
    ),
  },
  {
    shows: 'a disk of the size that is asked for, which the root file system fills; without it that of the source',
    properties: ['properties.vmProfile.osDiskSizeGB'],
    seen: build => [...new Set(build.outputs.map(one => one.virtualSize / GIB)), rootEnd(build)],
    is: { first: [DISK_GIB, DISK_GIB] },
  },
  {
    shows: 'a disk of the size of the source',
    properties: [],
    seen: build => [...new Set(build.outputs.map(one => one.virtualSize / GIB)), rootEnd(build)],
    is: { second: [DISK_GIB, DISK_GIB], third: [DISK_GIB, DISK_GIB] },
  },
  {
    shows: 'a script from elsewhere, checked, run by its own first line',
    properties: of(customize, 'Shell', 'type', 'name', 'scriptUri', 'sha256Checksum'),
    seen: build => [
      build.facts.script,
      file(build, '/opt/table'),
      file(build, '/home/tabler/made'),
      build.said.includes('customize stderr told on standard error'),
      steps(build, 'customize')[0],
    ],
    is: {
      first: [
        'bash',
        'directory 751 0:0',
        text('644', '1500:1500', 'script\n'),
        true,
        'customize 1/5 Shell "script": Succeeded',
      ],
    },
  },
  {
    shows: 'lines that become one script, run in the image as it was left before',
    properties: of(customize, 'Shell', 'type', 'name', 'inline'),
    seen: build => [file(build, '/opt/table/words'), steps(build, 'customize').at(-1)],
    is: {
      first: [words('first'), 'customize 5/5 Shell "word": Succeeded'],
      second: [words('first', 'second'), 'customize 3/3 Shell "word": Succeeded'],
      third: [words('first', 'second', 'third'), 'customize 1/1 Shell "word": Succeeded'],
    },
  },
  {
    shows: 'a step that fails: how, and what follows',
    properties: of(customize, 'Shell', 'inline'),
    seen: build => [ended(build), steps(build, 'customize'), build.outputs],
    is: {
      broken: [
        {
          ...{ state: 'Failed', exitCode: 4, code: 'StepFailed', target: 'properties.customize[1]' },
          message: 'Step 2/3 Shell "exit" failed with exit code 9. Last lines:\n    the reason',
        },
        [
          'customize 1/3 Shell "word": Succeeded',
          'customize 2/3 Shell "exit": Failed',
          'customize 3/3 Shell "never": Skipped',
        ],
        [],
      ],
    },
  },
  {
    shows: 'a file, checked, at the path or in the directory that is named',
    properties: of(customize, 'File', 'type', 'name', 'sourceUri', 'sha256Checksum', 'destination'),
    seen: build => [file(build, '/opt/table/file.txt'), ...steps(build, 'customize').filter(step => /File/.test(step))],
    is: {
      first: [
        text('640', '0:1500', FILES['file.txt']),
        'customize 2/5 File "file": Succeeded',
        'customize 4/5 File "deprovision": Succeeded',
      ],
      // Compared there with the one of the image.
      second: [text('640', '0:1500', FILES['file.txt']), 'customize 1/3 File "into": Succeeded'],
    },
  },
  {
    shows: 'generalized by the template’s own script or the agent, and by Kiln behind them',
    properties: [],
    seen: build => [
      build.facts['deprovisioned-by'],
      file(build, '/opt/table/deprovisioned'),
      file(build, '/tmp/DeprovisioningScript.sh'),
      ...[file(build, '/etc/machine-id'), file(build, '/home/kiln'), file(build, '/etc/sudoers.d/90-cloud-init-users')],
    ],
    is: Object.fromEntries(
      (['first', 'second', 'third'] as const).map(name => [
        name,
        [
          ...[name === 'first' ? 'root' : undefined, text('644', '0:0', 'own\n'), undefined],
          ...[text('444', '0:0', ''), undefined, undefined],
        ],
      ]),
    ),
  },
  {
    shows: 'an empty /tmp to begin with, as after a boot',
    properties: [],
    seen: build => build.facts.tmp,
    is: { second: 'file.txt' },
  },
  {
    shows: 'validators, in order, in a machine that boots the finished image as one of its own',
    properties: [
      ...of(validate, 'Shell', 'type', 'name', 'inline', 'scriptUri', 'sha256Checksum'),
      ...of(validate, 'File', 'type', 'name', 'sourceUri', 'sha256Checksum', 'destination'),
    ],
    seen: build => build.facts,
    is: {
      third: {
        ...{ words: 'first second third', checked: 'first second third', expectation: 'equal' },
        ...{ user: 'kiln', people: 'tabler:1500 kiln:1501', home: 'tabler:644:7', room: '4' },
        ...{ 'machine-id': '1', 'failed-units': '0', packages: '0' },
      },
    },
  },
  {
    shows: 'a validator that fails fails the run, but not the distribution where the template says so',
    properties: ['properties.validate.continueDistributeOnFailure'],
    seen: build => [
      ended(build),
      [...steps(build, 'validate').slice(-2), ...steps(build, 'distribute')],
      build.outputs.map(({ name }) => name),
      file(build, '/tmp/expected'),
      build.marks,
    ],
    is: {
      third: [
        {
          ...{ state: 'Failed', exitCode: 4, code: 'StepFailed', target: 'properties.validate.inVMValidations[4]' },
          message: 'Validator 5/6 Shell "strict" failed with exit code 7. Last lines:\n    the port is closed',
        },
        [
          'validate 5/6 Shell "strict": Failed',
          'validate 6/6 Shell "never": Skipped',
          `distribute VHD "third-vhd" → ${HERE}: Succeeded`,
        ],
        ['third-vhd'],
        undefined,
        [
          ...['shell', 'file', 'shell', 'shell', 'shell'].flatMap(type => [
            `Starting provisioner ${type}`,
            `ending ${type}`,
          ]),
          'Finalizing.',
        ],
      ],
    },
  },
  {
    shows: 'the source alone is looked at, and nothing is made',
    properties: ['properties.validate.sourceValidationOnly', ...of(validate, 'Shell', 'inline')],
    seen: build => [ended(build), build.phases.slice(2), build.outputs],
    is: {
      looked: [
        {
          ...{ state: 'Failed', exitCode: 4, code: 'StepFailed', target: 'properties.validate.inVMValidations[1]' },
          message: 'Validator 2/2 Shell "refuses" failed with exit code 1. It printed nothing.',
        },
        ['validate 1/2 Shell "source": Succeeded', 'validate 2/2 Shell "refuses": Failed'],
        [],
      ],
    },
  },
  {
    shows: 'a managed image, in another region than the template',
    properties: of(distribute, 'ManagedImage', 'type', 'runOutputName', 'imageId', 'location', 'artifactTags'),
    seen: (build, machine) => {
      const { location, tags, properties } = machine.resources[IMAGE]!;
      const { osDisk, dataDisks } = properties.storageProfile;
      const output = build.outputs.find(({ name }) => name === 'first-image');
      return [output?.artifactId, output?.location, location, tags, osDisk.osState, osDisk.diskSizeGB, dataDisks];
    },
    is: { first: [IMAGE, THERE, THERE, correlated, 'Generalized', DISK_GIB, []] },
  },
  {
    shows: 'an image version: its number, its regions with their storage, what is latest, its tags',
    properties: [
      ...of(distribute, 'SharedImage', 'type', 'runOutputName', 'galleryImageId', 'artifactTags', 'targetRegions'),
      ...['name', 'replicaCount', 'storageAccountType'].map(
        name => `properties.distribute[](SharedImage).targetRegions[].${name}`,
      ),
      ...of(distribute, 'SharedImage', 'excludeFromLatest', 'replicationMode', 'versioning(Source).scheme'),
    ],
    seen(build, machine, template) {
      const { artifactId, ...version } = versionOf(build, machine, template);
      const [major, minor, build_] = machine.resources[templateId(template)]!.properties.source.exactVersion.split('.');
      return { ...version, ofSource: artifactId === `${definition(template)}/versions/${major}.${minor}.${build_}` };
    },
    is: {
      first: {
        ...{ ofSource: true, location: HERE, tags: correlated, replicationMode: 'Shallow', excludeFromLatest: true },
        targetRegions: [region('West Europe', 'Standard_ZRS', 2), region('North Europe', 'Premium_LRS')],
        replicas: [THERE, HERE],
      },
    },
  },
  {
    shows: 'an image version by the older words, with the number that comes next',
    properties: of(
      ...([distribute, 'SharedImage', 'replicationRegions', 'storageAccountType'] as const),
      ...(['excludeFromLatest', 'replicationMode', 'versioning(Latest).scheme', 'versioning(Latest).major'] as const),
    ),
    seen: versionOf,
    is: {
      second: {
        ...{ artifactId: `${definition('second')}/versions/4.0.1`, location: THERE, tags: correlated },
        ...{ replicationMode: 'Full', excludeFromLatest: false, replicas: [THERE, HERE] },
        targetRegions: [region('North Europe', 'Standard_ZRS'), region('West Europe', 'Standard_ZRS')],
      },
    },
  },
  {
    shows: 'a VHD',
    properties: of(distribute, 'VHD', 'type', 'runOutputName', 'artifactTags'),
    seen(build, machine, template) {
      const [{ format, virtualSize, tags }] = image(machine, `${template}-vhd`) as [Machine['images'][number]];
      const output = build.outputs.find(({ name }) => name === `${template}-vhd`);
      return [output?.artifactUri?.replace(/-DIGEST/, ''), format, virtualSize / GIB, tags];
    },
    is: Object.fromEntries(
      (
        [
          ['first', HERE],
          ['second', THERE],
          ['third', HERE],
        ] as const
      ).map(([name, where]) => [
        name,
        [`file://HOME/regions/${where}/VHD/${name}-vhd/image.vhd`, 'vhd', DISK_GIB, correlated],
      ]),
    ),
  },
];

function sizeShown() {
  const { processors, memoryMiB } = capped(sizeOf(SIZE, 'V2')!);
  return { processors, memoryMiB };
}
