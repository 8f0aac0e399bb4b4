/** QEMU's command line: a pure function of what a machine is. */
import { copyingDisk, type DiskFile, dataNode, descriptors, diskChain } from './disk-nodes.ts';

export interface Invocation {
  /** Shown by `ps`. */
  readonly name: string;
  readonly accelerator: 'kvm' | 'tcg';
  readonly cpu: string;
  readonly machine: string;
  readonly processors: number;
  readonly memoryMiB: number;
  readonly disk: InvokedDisk;
  readonly copyOnRead?: boolean;
  /** At units of one SCSI controller, as on Azure. */
  readonly dataDisks?: readonly (InvokedDisk & { readonly lun: number })[];
  /** The provisioning seed, read-only. */
  readonly seedFd?: number;
  /** Strings of the guest's SMBIOS tables: one by value, one read from a descriptor because it is secret. */
  readonly credentials?: { readonly open: string; readonly secretFd: number };
  /** A connected socket that speaks QMP. */
  readonly qmpFd: number;
  /** A connected socket: the other end of the port through which a resumed guest is renewed. */
  readonly renewalFd?: number;
  /** A connected socket: the other end of the port through which a resumed guest runs its first commands. */
  readonly commandsFd?: number;
  /** A file to have the guest's memory in, of that size: what it is frozen by. */
  readonly memoryFd?: number;
  /** Whether the machine goes on from a checkpoint instead of booting: it waits to be told where its devices' state is. */
  readonly incoming?: boolean;
  /** Where the guest's port 22 appears; port 0 lets QEMU pick. */
  readonly sshForward?: { readonly address: string; readonly port: number };
  readonly uefi?: { readonly codePath: string; readonly variablesFd: number };
  /** Trusted Launch: the firmware keeps its variables to itself, and the TPM answers at this socket. Takes `uefi` and a machine type with SMM. */
  readonly trusted?: { readonly tpmSocketPath: string };
  /** Whose terminal the serial console is: QEMU's own standard streams. `keys` adds Ctrl-A X to end it. */
  readonly console: 'output' | 'terminal';
}

export interface InvokedDisk {
  /** The writable overlay first, then what it stands on. */
  readonly chain: readonly DiskFile[];
  /** What the guest will write to behind each checkpoint: known to QEMU from the start, since it can open nothing later. */
  readonly overlays?: readonly Omit<DiskFile, 'format'>[];
}

/** Always the same: the guest's network configuration is made for it. Locally administered. */
export const MAC_ADDRESS = '52:54:00:6b:69:6c';

/** What QEMU knows the guest's network by. */
export const NETWORK = 'net';

/** What a guest, and QEMU's events, know the port by that it is renewed through. */
export const RENEWAL_PORT = 'kiln.renewal';

/** What a guest, and QEMU's events, know the port by that its build user's commands come through. */
export const COMMANDS_PORT = 'kiln.commands';

/** Translated code is kept in this much of the host's memory, in MiB. QEMU's default is too small for a booting guest. */
const TRANSLATION_BUFFER_MIB = 512;

/** Arguments for qemu-system-x86_64. File descriptors must be inherited under the numbers given. */
export function commandLine(invocation: Invocation): string[] {
  const { disk, dataDisks = [], seedFd, uefi } = invocation;
  const files = [disk, ...dataDisks].flatMap(({ chain, overlays = [] }) => [...chain, ...overlays]);
  const others = [seedFd, uefi?.variablesFd].filter(fd => fd !== undefined).map(fd => ({ fd }));
  return [
    ...['-name', invocation.name, '-no-user-config', '-nodefaults', '-display', 'none'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...[...files, ...others].flatMap(descriptors),
    ...memory(invocation),
    ...['-accel', invocation.accelerator === 'kvm' ? 'kvm' : `tcg,thread=multi,tb-size=${TRANSLATION_BUFFER_MIB}`],
    ...['-cpu', invocation.cpu, '-smp', String(invocation.processors)],
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
    ...['-blockdev', JSON.stringify(invocation.copyOnRead ? copyingDisk(disk.chain) : diskChain(disk.chain))],
    ...['-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
    ...seed(invocation),
    ...credentials(invocation),
    ...network(invocation),
    ...['-device', 'virtio-rng-pci', '-device', 'vmgenid,guid=auto'],
    ...trusted(invocation),
    ...data(invocation),
    ...ports(invocation),
    ...(invocation.incoming ? ['-incoming', 'defer'] : []),
  ];
}

function memory({ machine, memoryMiB, memoryFd }: Invocation): string[] {
  const size = ['-m', `${memoryMiB}M`];
  if (memoryFd === undefined) return ['-machine', machine, ...size];
  const backend = `memory-backend-file,id=ram,size=${memoryMiB}M,mem-path=/dev/fd/${memoryFd},share=on`;
  return ['-machine', `${machine},memory-backend=ram`, ...size, '-object', backend];
}

function seed({ seedFd }: Invocation): string[] {
  if (seedFd === undefined) return [];
  const file = { driver: 'file', filename: `/dev/fdset/${seedFd}`, 'read-only': true };
  const node = { 'node-name': 'seed', driver: 'raw', 'read-only': true, file };
  return ['-blockdev', JSON.stringify(node), '-device', 'virtio-blk-pci,drive=seed,serial=kiln-seed'];
}

function data({ dataDisks = [] }: Invocation): string[] {
  if (dataDisks.length === 0) return [];
  return [
    ...['-device', 'virtio-scsi-pci,id=data'],
    ...dataDisks.flatMap(({ lun, chain }) => [
      ...['-blockdev', JSON.stringify(diskChain(chain, dataNode(lun)))],
      ...['-device', `scsi-hd,bus=data.0,channel=0,scsi-id=0,lun=${lun},drive=${dataNode(lun)}`],
    ]),
  ];
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
    ...['-netdev', `user,id=${NETWORK},ipv6=off${forward}`],
    ...['-device', `virtio-net-pci,netdev=${NETWORK},mac=${MAC_ADDRESS},romfile=`],
  ];
}

/** Behind all other devices, so that those have the same addresses with and without them. */
function ports({ renewalFd, commandsFd }: Invocation): string[] {
  if (renewalFd === undefined || commandsFd === undefined) return [];
  return [
    ...['-chardev', `socket,id=renewal,fd=${renewalFd},server=off`],
    ...['-chardev', `socket,id=commands,fd=${commandsFd},server=off`],
    ...['-device', 'virtio-serial-pci'],
    ...['-device', `virtserialport,chardev=renewal,id=${RENEWAL_PORT},name=${RENEWAL_PORT}`],
    ...['-device', `virtserialport,chardev=commands,id=${COMMANDS_PORT},name=${COMMANDS_PORT}`],
  ];
}

function firmware({ uefi }: Invocation): string[] {
  if (!uefi) return [];
  const variables = { driver: 'file', filename: `/dev/fdset/${uefi.variablesFd}`, 'node-name': 'variables' };
  const code = { driver: 'file', filename: uefi.codePath, 'read-only': true, 'node-name': 'firmware' };
  return ['-blockdev', JSON.stringify(code), '-blockdev', JSON.stringify(variables)];
}

/** Without S3 the guest cannot wake up with the flash unlocked (OVMF's README, SMM_REQUIRE). */
function trusted({ trusted }: Invocation): string[] {
  if (!trusted) return [];
  return [
    ...['-global', 'driver=cfi.pflash01,property=secure,value=on', '-global', 'ICH9-LPC.disable_s3=1'],
    ...['-chardev', `socket,id=tpm,path=${trusted.tpmSocketPath.replaceAll(',', ',,')}`],
    ...['-tpmdev', 'emulator,id=tpm,chardev=tpm', '-device', 'tpm-tis,tpmdev=tpm'],
  ];
}

function serial({ console }: Invocation): string[] {
  const mux = console === 'terminal' ? ',mux=on' : '';
  const monitor = console === 'terminal' ? ['-mon', 'chardev=console,mode=readline'] : [];
  return ['-chardev', `stdio,id=console,signal=off${mux}`, '-serial', 'chardev:console', ...monitor];
}

/** The machine type, with the firmware's flash where it has any, and system management mode where that alone may write to it. */
export function machineType(base: string, uefi: boolean, trusted = false): string {
  return `${base}${trusted ? ',smm=on' : ''}${uefi ? ',pflash0=firmware,pflash1=variables' : ''}`;
}
