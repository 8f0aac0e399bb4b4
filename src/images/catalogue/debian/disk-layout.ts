/** Puts a root file system on a GPT disk that boots by BIOS and by UEFI, all in plain files: no loop devices, no mounts. */
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MIB } from '../../../disks/qemu-img.ts';
import { run } from '../../../processes/process.ts';
import type { GuestIdentity } from './guest-files.ts';

const SECTOR = 512;
const GIB = 1024 * MIB;

/** The root partition is the last one, so that it can grow. Numbers as on Debian's own cloud images. Bytes. */
export const LAYOUT = Object.freeze({
  size: 3 * GIB,
  bios: { number: 14, start: MIB, size: 3 * MIB, type: '21686148-6449-6E6F-744E-656564454649' },
  esp: { number: 15, start: 4 * MIB, size: 64 * MIB, type: 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B' },
  root: { number: 1, start: 68 * MIB, size: 3 * GIB - 69 * MIB, type: '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709' },
});

/** Features that Debian 12's GRUB can read, whatever the host's mke2fs would choose by itself. */
export const MKE2FS_CONF = `[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
`;

export interface DiskRequest {
  /** Directory of the finished root file system; GRUB's images lie in its boot/grub. */
  readonly root: string;
  /** The ext4 image of it, LAYOUT.root.size bytes. */
  readonly rootImage: string;
  readonly disk: string;
  readonly identity: GuestIdentity;
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

export async function assembleDisk(request: DiskRequest): Promise<void> {
  const { disk, env } = request;
  const options = { env, ...(request.signal && { signal: request.signal }) };
  await writeFile(disk, '');
  const handle = await open(disk, 'r+');
  try {
    await handle.truncate(LAYOUT.size);
  } finally {
    await handle.close();
  }
  await run('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', disk], { ...options, input: sfdiskScript() });
  const start = LAYOUT.root.start / MIB;
  await run(
    'dd',
    [`if=${request.rootImage}`, `of=${disk}`, 'bs=1M', `seek=${start}`, 'conv=sparse,notrunc', 'status=none'],
    options,
  );
  const esp = `${disk}@@${LAYOUT.esp.start}`;
  const serial = request.identity.esp.replace('-', '');
  const sectors = String(LAYOUT.esp.size / SECTOR);
  // mtools insists on a geometry that fits the size unless told otherwise.
  const tools = { ...options, env: { ...env, MTOOLS_SKIP_CHECK: '1' } };
  await run('mformat', ['-i', esp, '-F', '-c', '1', '-T', sectors, '-N', serial, '-v', 'EFI', '::'], tools);
  await run('mmd', ['-i', esp, '::/EFI', '::/EFI/BOOT'], tools);
  const efi = join(request.root, 'boot/grub/x86_64-efi/core.efi');
  await run('mcopy', ['-i', esp, efi, '::/EFI/BOOT/BOOTX64.EFI'], tools);
  await clearNestedTable(disk);
  await installBiosBoot(request);
}

/** mformat leaves a partition table inside its boot sector, about which GRUB's tools complain at every kernel update. */
async function clearNestedTable(disk: string): Promise<void> {
  const handle = await open(disk, 'r+');
  try {
    await handle.write(Buffer.alloc(64), 0, 64, LAYOUT.esp.start + 446);
  } finally {
    await handle.close();
  }
}

function sfdiskScript(): string {
  const lines = [LAYOUT.bios, LAYOUT.esp, LAYOUT.root].map(
    part => `p${part.number} : start=${part.start / SECTOR}, size=${part.size / SECTOR}, type=${part.type}`,
  );
  return ['label: gpt', ...lines, ''].join('\n');
}

/**
 * What grub-bios-setup does, on a file: `boot.img` goes around the partition table of sector 0 and learns where `core.img` lies;
 * the first sector of `core.img` learns where its rest lies (offsets: GRUB's boot.S and diskboot.S).
 */
async function installBiosBoot(request: DiskRequest): Promise<void> {
  const boot = await readFile(join(request.root, 'usr/lib/grub/i386-pc/boot.img'));
  const core = await readFile(join(request.root, 'boot/grub/i386-pc/core.img'));
  if (boot.length !== SECTOR || core.length > LAYOUT.bios.size)
    throw new Error('GRUB made an image of unexpected size');
  const first = BigInt(LAYOUT.bios.start / SECTOR);
  boot.writeBigUInt64LE(first, 0x5c);
  // Two NOPs in place of the check that is meant for floppies.
  boot.writeUInt16LE(0x9090, 0x66);
  core.writeBigUInt64LE(first + 1n, 0x1f4);
  const handle = await open(request.disk, 'r+');
  try {
    await handle.write(boot, 0, 440, 0);
    await handle.write(core, 0, core.length, LAYOUT.bios.start);
  } finally {
    await handle.close();
  }
}
