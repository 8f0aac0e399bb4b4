/** The capture phase: a clean power-off, then the overlay and its source become one standalone, sparse image. */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { convertDisk } from '../disks/qemu-img.ts';
import { ARTIFACT_FILES, type ArtifactFormat, type Artifacts } from './artifacts.ts';
import { imageLayer } from './layers/image-layer.ts';
import type { Phase } from './phase.ts';

export interface CaptureOptions {
  readonly artifacts: Artifacts;
  /** What distributors want of it. */
  readonly formats: readonly ArtifactFormat[];
  /** Whether a later phase boots the image. */
  readonly booted: boolean;
  readonly kept: boolean;
}

export function capturePhase({ artifacts, formats, booted, kept }: CaptureOptions): Phase {
  return {
    kind: 'capture',
    name: 'power off, flatten',
    subState: 'Building',
    inputs: { formats: [...new Set(formats)].sort() },
    ...(kept && { layer: imageLayer(artifacts, formats, booted) }),
    async run(state, context) {
      const { machine, disk, source, ...rest } = state;
      await machine!.powerOff({ signal: context.signal });
      await machine!.destroy();
      context.log.say('The machine is off; capturing its disk.');
      const path = join(context.directory, ARTIFACT_FILES.qcow2);
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
      artifacts.prepare(image, formats);
      return { state: { ...rest, source: source!, image }, bytes: allocatedSize };
    },
  };
}
