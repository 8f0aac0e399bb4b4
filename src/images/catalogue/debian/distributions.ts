/** The distributions whose systems are made from packages here, and where they differ. */
import type { Provisioning } from '../../../machines/machine.ts';
import { UBUNTU_ARCHIVE_KEY } from './ubuntu-key.ts';

export type DistributionName = 'debian' | 'ubuntu';

export interface Distribution {
  readonly name: DistributionName;
  /** For people. */
  readonly title: string;
  /** What its archive says of itself in `Origin`. */
  readonly origin: string;
  /** Code names that images are made of here, each with the packages that it has and others have not. Tests boot all of them. */
  readonly releases: Readonly<Record<string, readonly string[]>>;
  /** What the image has beyond the required packages, under names of this distribution. */
  readonly packages: readonly string[];
  /** Links to the newest kernel and its initial ram disk, in this directory. */
  readonly kernels: '/' | '/boot/';
  /** The file by which mmdebstrap knows its releases, and so their mirrors. */
  readonly knownBy?: string;
  /** What the archive is signed with, where this host need not have it: an OpenPGP key, binary. */
  readonly key?: Buffer;
}

/** All of them have a systemd that provisions (252 or newer). */
export const BOOTSTRAPPED_PROVISIONING: Provisioning = 'systemd-credentials';

const DEBIAN: Distribution = Object.freeze({
  name: 'debian',
  title: 'Debian',
  origin: 'Debian',
  releases: {
    bookworm: [],
    // It makes the root partition as large as the disk.
    trixie: ['systemd-repart'],
  },
  packages: ['linux-image-cloud-amd64', 'grub-cloud-amd64', 'waagent'],
  kernels: '/',
});

export const RELEASES_OF_UBUNTU = '/usr/share/distro-info/ubuntu.csv';

const UBUNTU: Distribution = Object.freeze({
  name: 'ubuntu',
  title: 'Ubuntu',
  origin: 'Ubuntu',
  releases: { noble: [] },
  packages: [
    ...['linux-image-virtual', 'initramfs-tools', 'grub-pc-bin', 'grub-efi-amd64-bin', 'grub2-common', 'walinuxagent'],
  ],
  kernels: '/boot/',
  knownBy: RELEASES_OF_UBUNTU,
  key: Buffer.from(UBUNTU_ARCHIVE_KEY, 'base64'),
});

export const DISTRIBUTIONS: Readonly<Record<DistributionName, Distribution>> = Object.freeze({
  debian: DEBIAN,
  ubuntu: UBUNTU,
});
