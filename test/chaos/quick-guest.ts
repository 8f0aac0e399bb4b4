/**
 * A source image that boots in a fraction of the time: crash tests need many guests, and what the guest does while it boots is not what
 * they are about. It is the catalogue's own Debian image with its kernel, systemd, sshd, sudo and agent; only, systemd starts nothing but
 * what Kiln meets (a script in cloud-init's place, sshd, the power button). The files are put into the disk offline.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { convertDisk } from '../../src/disks/qemu-img.ts';
import { acquirePlatformImage } from '../../src/images/catalogue/acquire.ts';
import { LAYOUT } from '../../src/images/catalogue/debian/disk-layout.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory } from '../kiln.ts';

const UNITS = '/etc/systemd/system';

/** Reads the seed that Kiln writes: one user, its key, the guest's own key; and the network that QEMU always gives. */
const SEED = `#!/bin/sh
set -eu
# Made by cloud-init's generator: there is no cloud-init to wait for.
rm -rf /run/cloud-init
modprobe -a virtio_net vfat nls_ascii nls_cp437
mkdir -p /run/seed
mount -t vfat -o ro /dev/vdb /run/seed
data=$(tr -d '\\n' < /run/seed/user-data)
umount /run/seed
value() { printf '%s\\n' "$data" | sed -n "s/.*\\"$1\\": *\\(\\[ *\\)\\{0,1\\}\\"\\([^\\"]*\\)\\".*/\\2/p"; }
id kiln >/dev/null 2>&1 || useradd -m -s /bin/bash kiln
install -d -m 700 -o kiln -g kiln /home/kiln/.ssh
value ssh_authorized_keys > /home/kiln/.ssh/authorized_keys
chown kiln /home/kiln/.ssh/authorized_keys
echo 'kiln ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/90-cloud-init-users
(umask 077; printf '%b' "$(value ed25519_private)" > /etc/ssh/ssh_host_ed25519_key)
printf '%b\\n' "$(value ed25519_public)" > /etc/ssh/ssh_host_ed25519_key.pub
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$(hostname)" > /etc/hosts
ip link set lo up
nic=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
ip link set "$nic" up
ip address add 10.0.2.15/24 dev "$nic"
ip route add default via 10.0.2.2
`;

/** What logind does elsewhere: the build user is gone when the machine is to be switched off, so Kiln presses the button. */
const POWER = `#!/bin/sh
set -eu
modprobe -a button evdev
until event=$(grep -A5 'Power Button' /proc/bus/input/devices | grep -o 'event[0-9]*'); do sleep 0.2; done
# One whole event: the kernel refuses to give less.
head -c 24 "/dev/input/$event" >/dev/null
exec systemctl poweroff
`;

const unit = (lines: readonly string[], service: readonly string[]) =>
  ['[Unit]', 'DefaultDependencies=no', 'Conflicts=shutdown.target', 'Before=shutdown.target', ...lines]
    .concat('[Service]', 'StandardOutput=tty', 'TTYPath=/dev/ttyS0', ...service, '')
    .join('\n');

const FILES: Readonly<Record<string, string>> = {
  '/etc/quick-seed': SEED,
  '/etc/quick-power': POWER,
  [`${UNITS}/quick-seed.service`]: unit(
    [],
    ['Type=oneshot', 'RemainAfterExit=yes', 'ExecStart=/bin/sh /etc/quick-seed'],
  ),
  [`${UNITS}/quick-power.service`]: unit([], ['ExecStart=/bin/sh /etc/quick-power']),
  [`${UNITS}/ssh.service`]: unit(
    ['Requires=quick-seed.service', 'After=quick-seed.service'],
    ['Type=notify', 'KillMode=process', 'RuntimeDirectory=sshd', 'ExecStart=/usr/sbin/sshd -D'],
  ),
  // Nobody says here that the system is up, until when pam_nologin would let no second login in.
  '/etc/tmpfiles.d/systemd-nologin.conf': '',
  [`${UNITS}/quick.target`]: '[Unit]\nRequires=ssh.service\nWants=quick-power.service\nAllowIsolate=yes\n',
};

const GRUB = '/boot/grub/grub.cfg';

export interface QuickGuest {
  /** For `--catalogue`. */
  readonly catalogue: string;
  /** KILN_CACHE for every command: what these tests put into a cache has no place in the user's. */
  readonly cache: string;
  /** The disk itself, raw. */
  readonly disk: string;
}

/** The `source` of templates that use it. */
export const QUICK_SOURCE = {
  type: 'PlatformImage',
  publisher: 'Chaos',
  offer: 'quick',
  sku: 'guest',
  version: 'latest',
};

/**
 * Makes the disk and a catalogue that names it in a directory of the test's own. Seconds, once Debian's image is in the user's cache.
 * @param prelude shell lines that the guest runs at each boot before anything else
 */
export async function makeQuickGuest(directory: string, prelude = ''): Promise<QuickGuest> {
  const debian = await acquirePlatformImage(
    { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
    { cacheDirectory: join(cacheDirectory(), 'sources') },
  );
  const disk = join(directory, 'quick.raw');
  await convertDisk(debian.disk, { to: disk, format: 'raw' });
  await edit(disk, directory, prelude);
  const catalogue = join(directory, 'catalogue.json');
  await writeFile(catalogue, JSON.stringify({ 'Chaos:quick:guest': { file: disk } }));
  return { catalogue, cache: join(directory, 'cache'), disk };
}

/** Writes files into the root file system of a disk without mounting it. */
async function edit(disk: string, directory: string, prelude: string): Promise<void> {
  const fileSystem = `${disk}?offset=${LAYOUT.root.start}`;
  const scratch = await mkdtemp(join(directory, 'edit-'));
  try {
    const grub = join(scratch, 'grub.cfg');
    await run('debugfs', ['-R', `dump ${GRUB} ${grub}`, fileSystem]);
    // Writable from the start: nothing is there to remount it, and systemd would put a read-only machine-id over the image's.
    const writable = (await readFile(grub, 'utf8')).replaceAll(/ ro (?=console=)/g, ' rw ');
    const commands: string[] = [];
    for (const [index, [path, text]] of Object.entries({
      ...FILES,
      '/etc/quick-seed': `${prelude}\n${SEED}`,
      [GRUB]: writable,
    }).entries()) {
      const local = join(scratch, String(index));
      await writeFile(local, text);
      // debugfs writes into its working directory only.
      commands.push(`cd ${dirname(path)}`, `rm ${basename(path)}`, `write ${local} ${basename(path)}`);
    }
    commands.push(`cd ${UNITS}`, 'symlink default.target quick.target');
    await writeFile(join(scratch, 'commands'), commands.join('\n'));
    await run('debugfs', ['-w', '-f', join(scratch, 'commands'), fileSystem]);
    const { stdout } = await run('debugfs', ['-R', `cat ${UNITS}/quick.target`, fileSystem]);
    if (!stdout.includes('ssh.service')) throw new Error(`the files did not reach ${disk}`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
