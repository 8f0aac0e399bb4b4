/** The capture phase: a clean power-off, then the overlay and its source become one standalone, sparse image. */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { convertDisk } from '../disks/qemu-img.ts';
import type { Phase } from './phase.ts';

export function capturePhase(): Phase {
  return {
    kind: 'capture',
    name: 'power off, flatten',
    subState: 'Building',
    inputs: {},
    async run(state, context) {
      const { machine, disk, source, ...rest } = state;
      await machine!.powerOff({ signal: context.signal });
      await machine!.destroy();
      context.log.say('The machine is off; capturing its disk.');
      const path = join(context.directory, 'image.qcow2');
      const { virtualSize, allocatedSize } = await convertDisk(disk!, {
        to: path,
        format: 'qcow2',
        signal: context.signal,
        onProgress: share =>
          context.progress({ label: 'flattening', done: Math.round(share * 100), total: 100, unit: 'steps' }),
      });
      await rm(disk!.path);
      const image = {
        path,
        format: 'qcow2' as const,
        virtualSize,
        allocatedSize,
        hyperVGeneration: source!.hyperVGeneration,
        osType: source!.osType,
        firmware: source!.firmware,
      };
      return { state: { ...rest, source: source!, image }, bytes: allocatedSize };
    },
  };
}
