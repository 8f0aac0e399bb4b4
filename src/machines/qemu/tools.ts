/** The programs that machines need on the host. */

export interface Tool {
  readonly program: string;
  /** The Debian package. */
  readonly package: string;
  /** What is lost without it; missing when nothing works without it. */
  readonly without?: string;
}

export const MACHINE_TOOLS: readonly Tool[] = Object.freeze([
  { program: 'qemu-system-x86_64', package: 'qemu-system-x86' },
  { program: 'qemu-img', package: 'qemu-utils' },
  { program: 'mformat', package: 'mtools' },
  { program: 'ip', package: 'iproute2', without: 'network isolation of build machines' },
  { program: 'nft', package: 'nftables', without: 'network isolation of build machines' },
  { program: 'setpriv', package: 'util-linux', without: 'running QEMU as an unprivileged user' },
  { program: '/usr/share/OVMF/OVMF_CODE_4M.fd', package: 'ovmf', without: 'images that boot by UEFI' },
]);
