/** Disks as QEMU's block nodes: a chain of files that Kiln opened, and the overlays that are put on top of it while the machine runs. */

/** One file, handed over as descriptors: QEMU needs no right to any path. */
export interface DiskFile {
  /** Also the number of QEMU's set of descriptors that stands for the file. */
  readonly fd: number;
  /** The same file opened for reading only: QEMU takes it when nothing may be written there any more. */
  readonly readFd?: number;
  readonly format: 'qcow2' | 'raw' | 'vpc';
}

/** The node of the system's disk that the guest writes to, before any checkpoint. */
export const DISK_NODE = 'disk';

/** The same, of a data disk. */
export const dataNode = (lun: number): string => `lun${lun}`;

/** The node of a disk's overlay behind a checkpoint, counted from 0. */
export const overlayNode = (disk: string, index: number): string => `${disk}-overlay-${index}`;

/** What the descriptor of a set is called with which its file can be written. */
export const WRITABLE = 'writable';

/** Arguments that make a file's descriptors known. */
export const descriptors = ({ fd, readFd }: Pick<DiskFile, 'fd' | 'readFd'>): string[] => [
  ...['-add-fd', `fd=${fd},set=${fd}${readFd === undefined ? '' : `,opaque=${WRITABLE}`}`],
  ...(readFd === undefined ? [] : ['-add-fd', `fd=${readFd},set=${fd}`]),
];

/**
 * A disk's chain as one nested definition. The disk is a throw-away overlay: what its caches hold need not survive a power cut, so guest
 * flushes are dropped; it is complete when QEMU has closed or frozen it. Zeroes and discarded blocks take no room.
 */
export function diskChain(files: readonly DiskFile[], disk = DISK_NODE, index = 0): object | null {
  const file = files[index];
  if (file === undefined) return null;
  const backing = file.format === 'qcow2' ? { backing: diskChain(files, disk, index + 1) } : {};
  if (index === 0) return { ...writtenNode(disk, file), ...backing };
  return {
    'node-name': `${disk}-backing-${index}`,
    driver: file.format,
    'read-only': true,
    file: { driver: 'file', filename: `/dev/fdset/${file.fd}`, 'read-only': true },
    ...backing,
  };
}

/** The disk with a filter in its place that puts what is read into the file that is written (`MachineRequest.copyOnRead`). */
export const copyingDisk = (files: readonly DiskFile[]): object => ({
  'node-name': DISK_NODE,
  driver: 'copy-on-read',
  discard: 'unmap',
  file: { ...diskChain(files), 'node-name': `${DISK_NODE}-written` },
});

/** An overlay that will be put on top: without what it stands on, which it is given then. */
export const overlay = (disk: string, index: number, fd: number): object => ({
  ...writtenNode(overlayNode(disk, index), { fd, format: 'qcow2' }),
  backing: null,
});

const WRITTEN = { discard: 'unmap', cache: { direct: false, 'no-flush': true } };

const writtenNode = (name: string, { fd, format }: DiskFile): object => ({
  'node-name': name,
  driver: format,
  'read-only': false,
  'detect-zeroes': 'unmap',
  ...WRITTEN,
  file: { driver: 'file', filename: `/dev/fdset/${fd}`, ...WRITTEN },
});
