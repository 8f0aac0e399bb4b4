/** QEMU's command line: a pure function of what a machine is. */

/** One file of the disk's chain, opened by Kiln and handed over as a file descriptor: QEMU needs no right to any path. */
export interface DiskFile {
  readonly fd: number;
  readonly format: 'qcow2' | 'raw' | 'vpc';
}

export interface Invocation {
  /** Shown by `ps`. */
  readonly name: string;
  readonly accelerator: 'kvm' | 'tcg';
  readonly cpu: string;
  readonly machine: string;
  readonly processors: number;
  readonly memoryMiB: number;
  /** The writable overlay first, then what it stands on. */
  readonly disk: readonly DiskFile[];
  /** The provisioning seed, read-only. */
  readonly seedFd?: number;
  /** Strings of the guest's SMBIOS tables: one by value, one read from a descriptor because it is secret. */
  readonly credentials?: { readonly open: string; readonly secretFd: number };
  /** A connected socket that speaks QMP. */
  readonly qmpFd: number;
  /** Where the guest's port 22 appears; port 0 lets QEMU pick. */
  readonly sshForward?: { readonly address: string; readonly port: number };
  readonly uefi?: { readonly codePath: string; readonly variablesFd: number };
  /** Whose terminal the serial console is: QEMU's own standard streams. `keys` adds Ctrl-A X to end it. */
  readonly console: 'output' | 'terminal';
}

/** Always the same: the guest's network configuration is made for it. Locally administered. */
export const MAC_ADDRESS = '52:54:00:6b:69:6c';

/** Translated code is kept in this much of the host's memory, in MiB. QEMU's default is too small for a booting guest. */
const TRANSLATION_BUFFER_MIB = 512;

/** Arguments for qemu-system-x86_64. File descriptors must be inherited under the numbers given. */
export function commandLine(invocation: Invocation): string[] {
  const files = [
    ...invocation.disk.map(file => file.fd),
    ...[invocation.seedFd, invocation.uefi?.variablesFd].filter(fd => fd !== undefined),
  ];
  return [
    ...['-name', invocation.name, '-no-user-config', '-nodefaults', '-display', 'none'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...files.flatMap(fd => ['-add-fd', `fd=${fd},set=${fd}`]),
    ...['-machine', invocation.machine],
    ...['-accel', invocation.accelerator === 'kvm' ? 'kvm' : `tcg,thread=multi,tb-size=${TRANSLATION_BUFFER_MIB}`],
    ...['-cpu', invocation.cpu, '-smp', String(invocation.processors), '-m', `${invocation.memoryMiB}M`],
    ...[
      '-rtc',
      'base=utc',
      '-chardev',
      `socket,id=qmp,fd=${invocation.qmpFd},server=off`,
      '-mon',
      'chardev=qmp,mode=control',
    ],
    ...firmware(invocation),
    ...serial(invocation),
    ...['-blockdev', JSON.stringify(diskNodes(invocation.disk))],
    ...['-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
    ...seed(invocation),
    ...credentials(invocation),
    ...network(invocation),
    ...['-device', 'virtio-rng-pci', '-device', 'vmgenid,guid=auto'],
  ];
}

/**
 * The chain as one nested definition. The disk is a throw-away overlay: what its caches hold need not survive a power cut, so guest
 * flushes are dropped; it is complete when QEMU has closed it. Zeroes and discarded blocks take no room.
 */
function diskNodes(files: readonly DiskFile[], index = 0): object | null {
  const file = files[index];
  if (file === undefined) return null;
  const top = index === 0;
  const behaviour = top
    ? { 'read-only': false, discard: 'unmap', 'detect-zeroes': 'unmap', cache: { direct: false, 'no-flush': true } }
    : { 'read-only': true };
  return {
    'node-name': top ? 'disk' : `disk-backing-${index}`,
    driver: file.format,
    ...behaviour,
    file: {
      driver: 'file',
      filename: `/dev/fdset/${file.fd}`,
      ...(top ? { discard: 'unmap', cache: { direct: false, 'no-flush': true } } : { 'read-only': true }),
    },
    ...(file.format === 'qcow2' && { backing: diskNodes(files, index + 1) }),
  };
}

function seed({ seedFd }: Invocation): string[] {
  if (seedFd === undefined) return [];
  const file = { driver: 'file', filename: `/dev/fdset/${seedFd}`, 'read-only': true };
  const node = { 'node-name': 'seed', driver: 'raw', 'read-only': true, file };
  return ['-blockdev', JSON.stringify(node), '-device', 'virtio-blk-pci,drive=seed,serial=kiln-seed'];
}

/** By /dev/fd, since QEMU reads these before it knows of descriptor sets. */
function credentials({ credentials }: Invocation): string[] {
  if (!credentials) return [];
  return ['-smbios', `type=11,value=${credentials.open}`, '-smbios', `type=11,path=/dev/fd/${credentials.secretFd}`];
}

/** The option ROM is left out: booting from the network is nothing a build does, and it costs time. */
function network({ sshForward }: Invocation): string[] {
  const forward = sshForward ? `,hostfwd=tcp:${sshForward.address}:${sshForward.port}-:22` : '';
  return [
    ...['-netdev', `user,id=net,ipv6=off${forward}`],
    ...['-device', `virtio-net-pci,netdev=net,mac=${MAC_ADDRESS},romfile=`],
  ];
}

function firmware({ uefi }: Invocation): string[] {
  if (!uefi) return [];
  const variables = { driver: 'file', filename: `/dev/fdset/${uefi.variablesFd}`, 'node-name': 'variables' };
  const code = { driver: 'file', filename: uefi.codePath, 'read-only': true, 'node-name': 'firmware' };
  return ['-blockdev', JSON.stringify(code), '-blockdev', JSON.stringify(variables)];
}

function serial({ console }: Invocation): string[] {
  const mux = console === 'terminal' ? ',mux=on' : '';
  const monitor = console === 'terminal' ? ['-mon', 'chardev=console,mode=readline'] : [];
  return ['-chardev', `stdio,id=console,signal=off${mux}`, '-serial', 'chardev:console', ...monitor];
}

/** The machine type, with the firmware's flash where it has any. */
export function machineType(base: string, uefi: boolean): string {
  return uefi ? `${base},pflash0=firmware,pflash1=variables` : base;
}
