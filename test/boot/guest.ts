/** A guest to look into: boots a throw-away overlay of a disk, as a machine of its own. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createOverlay, type DiskFile } from '../../src/disks/qemu-img.ts';
import type { Machine } from '../../src/machines/machine.ts';
import { qemuFactory } from '../../src/machines/qemu/factory.ts';

export interface Guest extends AsyncDisposable {
  readonly machine: Machine;
  /** What a command prints on standard output; rejects when it fails. */
  ask(command: string): Promise<string>;
}

/** @param directory is made; other users' processes must be able to pass through its parents */
export async function bootGuest(disk: DiskFile, directory: string, cacheFile: string): Promise<Guest> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const overlay = join(directory, 'overlay.qcow2');
  await createOverlay({ backing: disk, path: overlay });
  const machine = await qemuFactory({ cacheFile }).start({
    id: 'look',
    directory,
    kind: 'qemu',
    name: 'look',
    disk: { path: overlay, format: 'qcow2' },
    processors: 2,
    memoryMiB: 1024,
    firmware: 'bios',
    provisioning: 'cloud-init',
    consolePath: join(directory, 'console.log'),
    report: () => {},
  });
  return {
    machine,
    async ask(command) {
      const chunks: Record<'stdout' | 'stderr', string> = { stdout: '', stderr: '' };
      const { exitCode } = await machine.exec(command, {
        output: (chunk, stream) => {
          chunks[stream] += chunk.toString('utf8');
        },
      });
      if (exitCode !== 0) throw new Error(`${command} ended with ${exitCode}: ${chunks.stderr}${chunks.stdout}`);
      return chunks.stdout;
    },
    [Symbol.asyncDispose]: () => machine.destroy(),
  };
}
