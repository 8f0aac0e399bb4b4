/**
 * Few templates that use many properties, one built on the other: `first` on a platform image, `second` on the managed image that comes of it, `third` on the version that comes of
 * that one; two more fail, and one only looks at its source.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from './build-template.ts';

const GROUPS = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups';
const COMPUTE = `${GROUPS}/table/providers/Microsoft.Compute`;
export const HERE = 'westeurope';
export const THERE = 'northeurope';
export const DISK_GIB = 5;
export const SIZE = 'Standard_B1ms';
export const TAGS = { purpose: 'a table', größe: '5' };
export const definition = (name: string) => `${COMPUTE}/galleries/table/images/${name}`;
export const IMAGE = `${COMPUTE}/images/first`;

export const FILES = {
  'script.sh': [
    '#!/bin/bash',
    'set -euo pipefail',
    '[[ -n $BASH_VERSION ]] && echo "fact script=bash"',
    'sudo install -d -m 0751 /opt/table',
    'sudo useradd --create-home --uid 1500 tabler',
    'echo script | sudo -u tabler tee /home/tabler/made >/dev/null',
    'echo "told on standard error" >&2',
    '',
  ].join('\n'),
  'file.txt': 'carried along\n',
  // What a template brings in the place of the agent’s default; the build’s own traces are removed all the same.
  'deprovision.sh': 'echo "fact deprovisioned-by=$(id -un)"\necho own > /opt/table/deprovisioned\n',
  'check.sh': '#!/bin/sh\nset -e\necho "fact checked=$(cat /opt/table/words | tr "\\n" " ")"\n',
} as const;

/** What a machine that boots the image says of itself. */
const LOOK = [
  'echo "fact expectation=$(sudo cmp /tmp/expected/file.txt /opt/table/file.txt && echo equal)"',
  'echo "fact user=$(id -un)"',
  'echo "fact people=$(getent passwd | cut -d: -f1,3 | grep -E ":1[0-9]{3}$" | tr "\\n" " ")"',
  'echo "fact home=$(sudo stat -c %U:%a:%s /home/tabler/made)"',
  'echo "fact room=$(( $(df -B1 --output=size / | tail -n 1) >> 30 ))"',
  'echo "fact machine-id=$(grep -cE "^[0-9a-f]{32}$" /etc/machine-id)"',
  'echo "fact failed-units=$(systemctl --failed --plain --no-legend | wc -l)"',
  'echo "fact packages=$(dpkg --audit | wc -l)"',
];

const shell = (name: string, ...inline: string[]) => ({ type: 'Shell', name, inline });
const file = (name: string, sourceUri: keyof typeof FILES, destination: string) => ({
  ...{ type: 'File', name, sourceUri: `./${sourceUri}`, destination },
  sha256Checksum: sha256(FILES[sourceUri]),
});
const script = (name: string, scriptUri: keyof typeof FILES) => ({
  ...{ type: 'Shell', name, scriptUri: `./${scriptUri}` },
  sha256Checksum: sha256(FILES[scriptUri]).toUpperCase(),
});
/** Each template leaves its name in the image, and says which were there before. */
const word = (name: string) =>
  shell(
    'word',
    `echo ${name} | sudo tee -a /opt/table/words >/dev/null`,
    'echo "fact words=$(tr "\\n" " " < /opt/table/words)"',
  );

const vhd = (name: string) => ({ type: 'VHD', runOutputName: `${name}-vhd`, artifactTags: TAGS });
const version = (name: string, more: object) => ({
  ...{ type: 'SharedImage', runOutputName: `${name}-version`, galleryImageId: definition(name), artifactTags: TAGS },
  ...more,
});

const PLATFORM = { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' };
const MANAGED = { type: 'ManagedImage', imageId: IMAGE };
const SHARED = { type: 'SharedImageVersion', imageVersionId: `${definition('second')}/versions/latest` };

interface Template {
  readonly location: string;
  readonly properties: Readonly<Record<string, unknown>>;
}

export const TEMPLATES = {
  first: {
    location: HERE,
    properties: {
      source: PLATFORM,
      vmProfile: { vmSize: SIZE, osDiskSizeGB: DISK_GIB },
      customize: [
        script('script', 'script.sh'),
        file('file', 'file.txt', '/tmp/file.txt'),
        shell(
          'inline',
          'sudo install -m 0640 -g tabler /tmp/file.txt /opt/table/',
          'umask',
          'echo "fact user=$(id -un)"',
          'id -u',
          'touch /tmp/left',
        ),
        file('deprovision', 'deprovision.sh', '/tmp/DeprovisioningScript.sh'),
        word('first'),
      ],
      distribute: [
        { type: 'ManagedImage', runOutputName: 'first-image', imageId: IMAGE, location: THERE, artifactTags: TAGS },
        version('first', {
          targetRegions: [
            { name: HERE, replicaCount: 2, storageAccountType: 'Standard_ZRS' },
            { name: 'North Europe', storageAccountType: 'Premium_LRS' },
          ],
          excludeFromLatest: true,
          replicationMode: 'Shallow',
          versioning: { scheme: 'Source' },
        }),
        vhd('first'),
      ],
    },
  },
  second: {
    location: THERE,
    properties: {
      source: MANAGED,
      vmProfile: { vmSize: SIZE },
      customize: [
        file('into', 'file.txt', '/tmp/'),
        shell(
          'compare',
          'echo "fact tmp=$(ls /tmp | grep -vE "^(script_|systemd-private)" | tr "\\n" " ")"',
          'sudo cmp /tmp/file.txt /opt/table/file.txt',
          'stat -c %u:%g /tmp/file.txt',
          'rm /tmp/file.txt',
        ),
        word('second'),
      ],
      distribute: [
        version('second', {
          replicationRegions: [THERE, HERE],
          storageAccountType: 'Standard_ZRS',
          excludeFromLatest: false,
          replicationMode: 'Full',
          versioning: { scheme: 'Latest', major: 4 },
        }),
        vhd('second'),
      ],
    },
  },
  third: {
    location: HERE,
    properties: {
      source: SHARED,
      vmProfile: { vmSize: SIZE },
      customize: [word('third')],
      validate: {
        continueDistributeOnFailure: true,
        inVMValidations: [
          shell('place', 'mkdir /tmp/expected'),
          file('expected', 'file.txt', '/tmp/expected/'),
          shell('look', ...LOOK),
          script('script', 'check.sh'),
          shell('strict', 'echo "the port is closed" >&2', 'exit 7'),
          shell('never', 'echo never'),
        ],
      },
      distribute: [vhd('third')],
    },
  },
  /** A step that fails. */
  broken: {
    location: THERE,
    properties: {
      source: MANAGED,
      vmProfile: { vmSize: SIZE },
      customize: [word('broken'), shell('exit', 'echo "the reason" >&2', 'exit 9'), shell('never', 'echo never')],
      distribute: [vhd('broken')],
    },
  },
  /** Only looks. */
  looked: {
    location: HERE,
    properties: {
      source: { type: 'SharedImageVersion', imageVersionId: `${definition('second')}/versions/4.0.1` },
      vmProfile: { vmSize: SIZE },
      customize: [word('looked')],
      validate: {
        sourceValidationOnly: true,
        inVMValidations: [
          shell('source', 'echo "fact words=$(tr "\\n" " " < /opt/table/words)"'),
          shell('refuses', 'test -e /opt/table/looked'),
        ],
      },
      distribute: [vhd('looked')],
    },
  },
} as const satisfies Readonly<Record<string, Template>>;

export type TemplateName = keyof typeof TEMPLATES;

/** `kiln build` puts templates into this group. */
export const templateId = (name: TemplateName) =>
  `${GROUPS}/kiln/providers/Microsoft.VirtualMachineImages/imageTemplates/${name}`;

export const resourceOf = (name: TemplateName) => ({
  ...{ type: 'Microsoft.VirtualMachineImages/imageTemplates', apiVersion: '2025-10-01', name },
  // Images are booted here: by what is built on them, and by validators.
  tags: { 'kiln.bootProof': 'off' },
  ...TEMPLATES[name],
});

/** Writes the templates and their files. @returns their paths */
export async function writeTemplates(directory: string): Promise<Record<TemplateName, string>> {
  await mkdir(directory, { recursive: true });
  for (const [name, text] of Object.entries(FILES)) await writeFile(join(directory, name), text);
  const names = Object.keys(TEMPLATES) as TemplateName[];
  const path = (name: string) => join(directory, `${name}.json`);
  for (const name of names) await writeFile(path(name), JSON.stringify(resourceOf(name), null, 2));
  return Object.fromEntries(names.map(name => [name, path(name)])) as Record<TemplateName, string>;
}
