/** A template whose image has one of everything that a file system can hold, and what packages, users and services leave in a system. No network is needed. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/processes/process.ts';

export const SPARSE_BYTES = 64 * 1024 * 1024;

/** Files that a package brings, besides its scripts. */
const PACKAGE: Readonly<Record<string, string>> = {
  'DEBIAN/control': [
    ...['Package: kiln-equal', 'Version: 1.0', 'Architecture: all', 'Maintainer: Nobody <nobody@example.com>'],
    ...['Depends: base-files', 'Description: Something to install', ''],
  ].join('\n'),
  'DEBIAN/conffiles': '/etc/kiln-equal.conf\n',
  'DEBIAN/postinst': [
    ...['#!/bin/sh', 'set -e', 'useradd --system --user-group --home-dir /var/lib/kiln-equal --create-home kiln-equal'],
    'install -d -o kiln-equal -g kiln-equal -m 2750 /var/lib/kiln-equal/spool',
    'update-alternatives --install /usr/bin/equal equal /usr/lib/kiln-equal/tool 10',
    ...['ldconfig', 'systemctl enable kiln-equal.service kiln-equal.timer', 'systemctl daemon-reload || true', ''],
  ].join('\n'),
  'etc/kiln-equal.conf': 'answer = 42\n',
  'usr/lib/kiln-equal/tool': '#!/bin/sh\necho equal\n',
  'usr/lib/sysusers.d/kiln-equal.conf': 'g kiln-more - -\n',
  'usr/lib/tmpfiles.d/kiln-equal.conf': 'd /var/lib/kiln-tmpfiles 0751 kiln-equal kiln-equal -\n',
  'lib/systemd/system/kiln-equal.service':
    '[Service]\nType=oneshot\nExecStart=/usr/lib/kiln-equal/tool\n[Install]\nWantedBy=multi-user.target\n',
  'lib/systemd/system/kiln-equal.timer': '[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n',
};

const INSTALL = [
  'sudo dpkg --install /tmp/kiln-equal.deb',
  'sudo systemd-sysusers kiln-equal.conf',
  'sudo systemd-tmpfiles --create kiln-equal.conf',
  "sudo useradd --create-home --shell /bin/bash --groups kiln-equal --comment 'A Person' person",
  "sudo usermod --password '$6$salt$0123456789' person",
  'sudo systemctl mask apt-daily.service',
  'echo equal | sudo tee /etc/hostname >/dev/null',
  'echo "tmpfs /scratch tmpfs size=1m,nofail 0 0" | sudo tee -a /etc/fstab >/dev/null',
  'sudo mkdir /scratch',
  'sudo ln -sf /usr/share/zoneinfo/Europe/Amsterdam /etc/localtime',
  "sudo install -d -m 0700 /root/.ssh && echo 'ssh-ed25519 AAAA root@kept' | sudo tee -a /root/.ssh/authorized_keys >/dev/null",
  'sudo systemctl enable --quiet systemd-networkd-wait-online.service',
];

/** Names are bytes; python3 is there because cloud-init needs it. */
const ODD = `
import os, struct
os.umask(0)
top = b'/opt/odd'
os.makedirs(top + b'/deep/' + b'd' * 255)
def put(name, data=b'text\\n', mode=0o644, uid=0, gid=0):
    path = top + b'/' + name
    with open(path, 'wb') as file: file.write(data)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path
put(b'plain'); put(b'empty', b''); put(b'nobody', mode=0o600, uid=65534, gid=65534); put(b'large-ids', uid=4000000000, gid=3000000000)
put(b'setuid', mode=0o4755); put(b'setgid', mode=0o2711); put(b'none', mode=0o000)
os.mkdir(top + b'/sticky'); os.chmod(top + b'/sticky', 0o1777)
for name in (b'white space', b'new\\nline', b'tab\\there', b'back\\\\slash', b'quote"\\'', b'-dash', b'\\xff\\xfe not UTF-8', 'größe 🦆'.encode(), b'n' * 255): put(name)
for name in (b'hard-1', b'hard-2'): os.link(top + b'/plain', top + b'/' + name)
os.symlink(b'plain', top + b'/link'); os.symlink(b'/nowhere/at all', top + b'/dangling'); os.symlink(b'x' * 3000, top + b'/long-link')
os.mkfifo(top + b'/fifo', 0o640)
with open(top + b'/sparse', 'wb') as file:
    file.seek(${SPARSE_BYTES} - 3); file.write(b'end')
os.setxattr(put(b'attribute'), 'user.kiln', b'value \\x00\\xff')
os.setxattr(put(b'capability', mode=0o755), 'security.capability', struct.pack('<5I', 0x02000001, 1 << 10, 0, 0, 0))
entries = ((1, 6, -1), (2, 4, 65534), (4, 4, -1), (16, 4, -1), (32, 0, -1))
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in entries)
os.setxattr(put(b'acl', mode=0o640), 'system.posix_acl_access', acl)
os.mkdir(top + b'/default-acl'); os.setxattr(top + b'/default-acl', 'system.posix_acl_default', acl); put(b'default-acl/inherits')
os.utime(put(b'old'), (1000000000, 1000000000)); os.utime(put(b'before-1970'), (-1000000, -1000000))
`;

const LAST = [
  'sudo rm /tmp/kiln-equal.deb /tmp/odd.py',
  'echo left | sudo tee /tmp/left /var/tmp/left >/dev/null',
  'echo mine > ~/mine',
  'logger "said by a step" 2>/dev/null || true',
  'sudo -u person sh -c "echo hers > /home/person/hers"',
];

/** Writes the template, its package and its script. @returns its path */
export async function writeEqual(directory: string): Promise<string> {
  const tree = join(directory, 'package');
  for (const [name, text] of Object.entries(PACKAGE)) {
    const path = join(tree, name);
    await mkdir(join(path, '..'), { recursive: true, mode: 0o755 });
    await writeFile(path, text);
    await chmod(path, text.startsWith('#!') ? 0o755 : 0o644);
  }
  await run('dpkg-deb', ['--build', '--root-owner-group', tree, join(directory, 'kiln-equal.deb')]);
  await writeFile(join(directory, 'odd.py'), ODD);
  const file = (name: string) => ({ type: 'File', name, sourceUri: `./${name}`, destination: `/tmp/${name}` });
  const shell = (name: string, inline: readonly string[]) => ({ type: 'Shell', name, inline });
  const template = {
    ...{ type: 'Microsoft.VirtualMachineImages/imageTemplates', apiVersion: '2024-02-01', name: 'equal' },
    location: 'westeurope',
    tags: { 'kiln.bootProof': 'off' },
    properties: {
      vmProfile: { vmSize: 'Standard_B1ms', osDiskSizeGB: 4 },
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      customize: [
        file('kiln-equal.deb'),
        file('odd.py'),
        shell('install', INSTALL),
        shell('odd', ['sudo python3 /tmp/odd.py']),
        shell('last', LAST),
      ],
      distribute: [{ type: 'VHD', runOutputName: 'equal' }],
    },
  };
  const path = join(directory, 'equal.json');
  await writeFile(path, JSON.stringify(template, null, 2));
  return path;
}
