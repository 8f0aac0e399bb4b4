/** The built-in catalogue: which disk stands behind publisher:offer:sku. Names are Azure's own; the disks are the distributions' own. */

import type { Provisioning } from '../../machines/machine.ts';
import { BOOTSTRAPPED_PROVISIONING, type DistributionName } from './debian/distributions.ts';

/** Names an image in a marketplace: publisher, offer and SKU, without a version. Compared without regard to case. */
export interface ImageName {
  readonly publisher: string;
  readonly offer: string;
  readonly sku: string;
}

/** Where a disk comes from. */
export type Origin =
  /** Made here from packages. */
  | { readonly kind: 'bootstrap'; readonly distribution: DistributionName; readonly release: string }
  /** The file that a published list of checksums names; what the list says now is the latest version. */
  | {
      readonly kind: 'published';
      /** https URL of SHA256SUMS, SHA512SUMS or CHECKSUM; the disk lies beside it. */
      readonly checksums: string;
      readonly file: string;
      readonly algorithm: 'sha256' | 'sha512';
      /** First parts of versions; the day of publication follows: `22.04` gives 22.04.20260301. */
      readonly series: string;
    }
  /** One file at a URL. */
  | { readonly kind: 'url'; readonly url: string; readonly sha256: string; readonly version?: string }
  /** A file of this host. */
  | { readonly kind: 'file'; readonly path: string; readonly sha256?: string; readonly version?: string }
  /** The disk of another SKU of the same offer: it boots both ways. */
  | { readonly kind: 'sibling'; readonly sku: string };

/** What the publisher of a marketplace image wants to be agreed to: whoever builds on it has to name it. */
export interface PurchasePlan {
  readonly name: string;
  readonly product: string;
  readonly publisher: string;
}

export interface CatalogueEntry extends ImageName {
  readonly osType: 'Linux';
  readonly architecture: 'x64';
  readonly hyperVGeneration: 'V1' | 'V2';
  /** How Kiln boots it now. */
  readonly firmware: 'bios' | 'uefi';
  readonly provisioning: Provisioning;
  /** None of the built-in entries has one. */
  readonly plan?: PurchasePlan;
  readonly origin: Origin;
}

/** Another name for an entry. `sku` may be `*`, for all that have no entry of their own. */
export interface Alias extends ImageName {
  readonly to: ImageName;
  /** Why, for the log; nothing for a plain second name. */
  readonly because?: string;
}

export function imageName(text: string): ImageName {
  const [publisher = '', offer = '', sku = ''] = text.split(':');
  return { publisher, offer, sku };
}

export function formatName({ publisher, offer, sku }: ImageName): string {
  return `${publisher}:${offer}:${sku}`;
}

/** Both generations of one disk: the first SKU is generation 2, the second generation 1. */
function pair(
  publisher: string,
  offer: string,
  [second, first]: readonly [string, string],
  origin: Origin,
): CatalogueEntry[] {
  const common = {
    publisher,
    offer,
    osType: 'Linux',
    architecture: 'x64',
    firmware: 'bios',
    // What Kiln makes itself is known to have it; for disks from outside the way that every cloud image knows is right.
    provisioning: origin.kind === 'bootstrap' ? BOOTSTRAPPED_PROVISIONING : 'cloud-init',
  } as const;
  return [
    { ...common, sku: second, hyperVGeneration: 'V2', origin },
    { ...common, sku: first, hyperVGeneration: 'V1', origin: { kind: 'sibling', sku: second } },
  ];
}

function debianDaily(release: string, number: string): Origin {
  const checksums = `https://cloud.debian.org/images/cloud/${release}/daily/latest/SHA512SUMS`;
  const file = `debian-${number}-genericcloud-amd64-daily.qcow2`;
  return { kind: 'published', checksums, file, algorithm: 'sha512', series: '0' };
}

function ubuntuCloud(name: string, number: string): Origin {
  const checksums = `https://cloud-images.ubuntu.com/releases/${name}/release/SHA256SUMS`;
  const file = `ubuntu-${number}-server-cloudimg-amd64.img`;
  return { kind: 'published', checksums, file, algorithm: 'sha256', series: number };
}

function almaCloud(number: string): Origin {
  const checksums = `https://repo.almalinux.org/almalinux/${number}/cloud/x86_64/images/CHECKSUM`;
  const file = `AlmaLinux-${number}-GenericCloud-latest.x86_64.qcow2`;
  return { kind: 'published', checksums, file, algorithm: 'sha256', series: `${number}.0` };
}

export const ENTRIES: readonly CatalogueEntry[] = Object.freeze([
  ...pair('Debian', 'debian-12', ['12-gen2', '12'], { kind: 'bootstrap', distribution: 'debian', release: 'bookworm' }),
  ...pair('Debian', 'debian-12-daily', ['12-gen2', '12'], debianDaily('bookworm', '12')),
  ...pair('Debian', 'debian-13', ['13-gen2', '13'], { kind: 'bootstrap', distribution: 'debian', release: 'trixie' }),
  ...pair('Debian', 'debian-13-daily', ['13-gen2', '13'], debianDaily('trixie', '13')),
  ...pair('Canonical', '0001-com-ubuntu-server-focal', ['20_04-lts-gen2', '20_04-lts'], ubuntuCloud('focal', '20.04')),
  ...pair('Canonical', '0001-com-ubuntu-server-jammy', ['22_04-lts-gen2', '22_04-lts'], ubuntuCloud('jammy', '22.04')),
  ...pair('Canonical', 'ubuntu-24_04-lts', ['server', 'server-gen1'], ubuntuCloud('noble', '24.04')),
  ...pair('almalinux', 'almalinux-x86_64', ['8-gen2', '8-gen1'], almaCloud('8')),
  ...pair('almalinux', 'almalinux-x86_64', ['9-gen2', '9-gen1'], almaCloud('9')),
]);

const FOCAL = 'Canonical:0001-com-ubuntu-server-focal:20_04-lts-gen2';
const JAMMY = 'Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2';
const NOBLE = 'Canonical:ubuntu-24_04-lts:server';
const BOOKWORM = 'Debian:debian-12:12-gen2';

const alias = (from: string, to: string, because?: string): Alias => ({
  ...imageName(from),
  to: imageName(to),
  ...(because !== undefined && { because }),
});

/** Names in Azure's own quickstarts that are retired there, or second names; the first that fits counts. */
export const ALIASES: readonly Alias[] = Object.freeze([
  alias('Canonical:UbuntuServer:*', FOCAL, 'this Ubuntu is retired'),
  alias('Canonical:0001-com-ubuntu-server-bionic:*', FOCAL, 'Ubuntu 18.04 is retired'),
  alias('Canonical:0001-com-ubuntu-minimal-bionic:*', FOCAL, 'Ubuntu 18.04 is retired'),
  alias('Canonical:0001-com-ubuntu-minimal-focal:*', FOCAL, 'the minimal image is not in the catalogue'),
  alias('Canonical:0001-com-ubuntu-minimal-jammy:*', JAMMY, 'the minimal image is not in the catalogue'),
  alias('Canonical:0001-com-ubuntu-server-mantic:*', NOBLE, 'Ubuntu 23.10 is retired'),
  alias('Canonical:0001-com-ubuntu-server-lunar:*', NOBLE, 'Ubuntu 23.04 is retired'),
  alias('Canonical:0001-com-ubuntu-server-kinetic:*', JAMMY, 'Ubuntu 22.10 is retired'),
  alias('Canonical:0001-com-ubuntu-server-impish:*', JAMMY, 'Ubuntu 21.10 is retired'),
  alias('Canonical:0001-com-ubuntu-server-hirsute:*', FOCAL, 'Ubuntu 21.04 is retired'),
  alias('Canonical:0001-com-ubuntu-server-groovy:*', FOCAL, 'Ubuntu 20.10 is retired'),
  alias('Canonical:ubuntu-22_04-lts:*', JAMMY),
  alias('Canonical:ubuntu-24_04-lts:minimal', NOBLE, 'the minimal image is not in the catalogue'),
  alias('credativ:Debian:*', BOOKWORM, 'this Debian is retired'),
  alias('Debian:debian-10:*', BOOKWORM, 'Debian 10 is retired'),
  alias('Debian:debian-11:*', BOOKWORM, 'Debian 11 is retired'),
  alias('OpenLogic:CentOS:*', 'almalinux:almalinux-x86_64:8-gen2', 'CentOS is retired'),
  alias('OpenLogic:CentOS-LVM:*', 'almalinux:almalinux-x86_64:8-gen2', 'CentOS is retired'),
]);
