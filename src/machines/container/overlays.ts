/** The disk's overlays while the daemon shows it: what was written so far is frozen, and a new overlay goes on top, without the mounts noticing. */
import { open } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { basename, dirname } from 'node:path';
import { createOverlay } from '../../disks/qemu-img.ts';
import { Qmp } from '../qemu/qmp.ts';

/** The overlay is thrown away if anything goes wrong, and complete when it is closed: what its caches hold need not survive a power cut. */
export const CACHE = Object.freeze({ direct: false, 'no-flush': true });

export interface TopDisk {
  readonly path: string;
  /** The daemon's name for it. */
  readonly node: string;
}

/** @param monitor where the daemon listens for QMP. Errors: QEMU's own words; `top` goes on then. */
export async function goOnIn(monitor: string, top: TopDisk, overlay: string): Promise<TopDisk> {
  await createOverlay({ backing: { path: top.path, format: 'qcow2' }, path: overlay, beside: true });
  // By way of the directory's descriptor: the path of a socket may have 107 bytes.
  const directory = await open(dirname(monitor), 'r');
  const qmp = new Qmp(createConnection(`/proc/self/fd/${directory.fd}/${basename(monitor)}`));
  try {
    await qmp.open();
    const node = basename(overlay, '.qcow2');
    const file = { driver: 'file', filename: overlay, discard: 'unmap', cache: CACHE };
    const disk = { driver: 'qcow2', 'node-name': node, file, discard: 'unmap', 'detect-zeroes': 'unmap', cache: CACHE };
    await qmp.execute('blockdev-add', { ...disk, backing: null });
    // Writes out what the old one's caches hold.
    await qmp.execute('blockdev-snapshot', { node: top.node, overlay: node });
    return { path: overlay, node };
  } finally {
    qmp.close();
    await directory.close();
  }
}
