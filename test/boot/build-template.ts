/** A template that uses everything a build can do today, with the scripts and files that it names. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const GROUP = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/boot-test';
const COMPUTE = `${GROUP}/providers/Microsoft.Compute`;
export const MANAGED_IMAGE_ID = `${COMPUTE}/images/everything`;
export const DEFINITION_ID = `${COMPUTE}/galleries/boottest/images/everything`;
export const SECOND_IMAGE_ID = `${COMPUTE}/images/second`;
export const REGIONS = ['westeurope', 'northeurope'] as const;
export const DISK_GIB = 4;
export const TAGS = { purpose: 'boot test', größe: '4' };
/** A key that the template gives root: generalizing must leave it alone. */
export const ROOT_KEY =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtpbG4tYm9vdC10ZXN0LWtleS10aGF0LW5vYm9keS1oYXMh boot-test';

/** A step tells the test what it saw in lines `fact NAME=VALUE`; the build log brings them out. */
const LOOK = [
  'first=remembered',
  'echo "fact user=$(id -un)"',
  'echo "fact uid=$(id -u)"',
  'echo "fact pwd=$(pwd)"',
  'echo "fact home=$(getent passwd "$(id -un)" | cut -d: -f6)"',
  'echo "fact stdin-bytes=$(wc -c)"',
  'if [ -t 0 ] || [ -t 1 ] || [ -t 2 ] || tty >/dev/null 2>&1; then echo "fact terminal=yes"; else echo "fact terminal=no"; fi',
  'case $- in *e*) echo "fact errexit=yes";; *) echo "fact errexit=no";; esac',
  'false || echo "fact guarded-failure=survived"',
  'echo "fact one-script=$first"',
  'echo "fact frontend=$DEBIAN_FRONTEND"',
  'echo "fact root=$(sudo -n id -u)"',
  'echo "fact machine-id=$(cat /etc/machine-id)"',
  'echo "fact login-key=$(cut -d" " -f2 ~/.ssh/authorized_keys)"',
  // For root alone where an older cloud-init wrote them.
  `for key in /etc/ssh/ssh_host_*_key.pub; do echo "fact host-key=$(sudo cut -d' ' -f2 "$key")"; done`,
  'echo "fact root-size=$(df -B1 --output=size / | tail -n 1 | tr -d " ")"',
  'echo "told on standard error" >&2',
  // What a step does to its own shell, the next one does not see.
  'export LEAKED=yes; cd /tmp',
];

const CRLF_SCRIPT = `#!/bin/bash
set -euo pipefail
[ -z "\${LEAKED:-}" ] && [ "$PWD" = "$HOME" ] && echo "fact fresh-shell=yes"
sudo install -d -m 0755 /opt/kiln-test
sudo tee /opt/kiln-test/crlf.txt >/dev/null <<TEXT
line one
line two
TEXT
echo "fact bash=\${BASH_VERSINFO[0]}"
`;

const AWK_SCRIPT = `#!/usr/bin/awk -f
BEGIN { sum = 0; for (i = 1; i <= 100; i++) sum += i; print "fact awk=" sum }
`;

const INSTALL = [
  'test "$(cat notes.txt)" = "relative to the home of the login user"',
  'test "$(cat "/tmp/trailing slash.txt")" = "into the directory"',
  'sudo install -o root -g root -m 0640 notes.txt /opt/kiln-test/notes.txt',
  'sudo mv "/tmp/trailing slash.txt" /opt/kiln-test/',
  'sudo install -o root -g root -m 0444 /tmp/large.bin /opt/kiln-test/large.bin',
  'sudo install -o root -g root -m 4755 /bin/true /opt/kiln-test/setuid',
  'sudo ln -s notes.txt /opt/kiln-test/link',
  'sudo useradd --create-home --shell /bin/sh keeper',
  'echo "kept" | sudo -u keeper tee /home/keeper/kept.txt >/dev/null',
  'sudo install -d -m 0700 /root/.ssh',
  `echo '${ROOT_KEY}' | sudo tee -a /root/.ssh/authorized_keys >/dev/null`,
  "printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=true\\nExecStop=touch /opt/kiln-test/stopped\\n' | sudo tee /etc/systemd/system/once.service",
  'sudo systemctl start once',
  'rm -f notes.txt /tmp/large.bin',
  "printf 'a line with colour: \\033[31mred\\033[0m\\n'",
];

export interface Everything {
  readonly path: string;
  readonly largeSha256: string;
  readonly largeSize: number;
}

/** Writes the template and its files. `<region>` is left for `--set`. */
export async function writeEverything(directory: string): Promise<Everything> {
  await mkdir(directory, { recursive: true });
  const large = randomBytes(50 * 1024 * 1024);
  const crlf = CRLF_SCRIPT.replaceAll('\n', '\r\n');
  const files = {
    'crlf.sh': crlf,
    'sum.awk': AWK_SCRIPT,
    'notes.txt': 'relative to the home of the login user\n',
    'trailing slash.txt': 'into the directory\n',
    'large.bin': large,
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
  const template = {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    apiVersion: '2024-02-01',
    name: 'everything',
    location: '<region>',
    properties: {
      buildTimeoutInMinutes: 60,
      vmProfile: { vmSize: 'Standard_D2s_v3', osDiskSizeGB: DISK_GIB },
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      customize: [
        { type: 'Shell', name: 'look', inline: LOOK },
        { type: 'Shell', name: 'crlf', scriptUri: './crlf.sh', sha256Checksum: sha256(crlf).toUpperCase() },
        { type: 'Shell', name: 'awk', scriptUri: './sum.awk' },
        { type: 'File', name: 'relative', sourceUri: './notes.txt', destination: 'notes.txt' },
        { type: 'File', name: 'into', sourceUri: './trailing slash.txt', destination: '/tmp/' },
        {
          type: 'File',
          name: 'large',
          sourceUri: './large.bin',
          destination: '/tmp/large.bin',
          sha256Checksum: sha256(large),
        },
        { type: 'Shell', name: 'install', inline: INSTALL },
      ],
      distribute: [
        { type: 'VHD', runOutputName: 'everything-vhd' },
        {
          type: 'ManagedImage',
          runOutputName: 'everything-image',
          imageId: MANAGED_IMAGE_ID,
          location: '<region>',
          artifactTags: TAGS,
        },
        {
          type: 'SharedImage',
          runOutputName: 'everything-version',
          galleryImageId: DEFINITION_ID,
          targetRegions: REGIONS.map(name => ({ name, replicaCount: 1 })),
          versioning: { scheme: 'Latest', major: 3 },
        },
      ],
    },
  };
  const path = join(directory, 'template.json');
  await writeFile(path, JSON.stringify(template, null, 2));
  return { path, largeSha256: sha256(large), largeSize: large.length };
}

/** A template that begins where the first one ended: the gallery's newest version, in the other region. */
export async function writeSecond(directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  const template = {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    apiVersion: '2024-02-01',
    location: REGIONS[1],
    tags: { 'kiln.bootProof': 'off' },
    properties: {
      vmProfile: { vmSize: 'Standard_D2s_v3' },
      source: { type: 'SharedImageVersion', imageVersionId: `${DEFINITION_ID}/versions/latest` },
      customize: [
        {
          type: 'Shell',
          inline: [
            'echo "fact machine-id=$(cat /etc/machine-id)"',
            'echo "fact notes=$(sudo cat /opt/kiln-test/notes.txt)"',
            'echo second | sudo tee /opt/kiln-test/second.txt >/dev/null',
          ],
        },
      ],
      distribute: [
        { type: 'ManagedImage', runOutputName: 'second-image', imageId: SECOND_IMAGE_ID, location: REGIONS[1] },
      ],
    },
  };
  const path = join(directory, 'second.json');
  await writeFile(path, JSON.stringify(template, null, 2));
  return path;
}

export const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex');
