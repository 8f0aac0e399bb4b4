/** The capture phase: a clean power-off, then the overlays and what they stand on become the files that are published, each standalone and sparse; each data disk is one of its own. */

import { rm } from 'node:fs/promises';
import {
  type Artifact,
  type ArtifactFormat,
  bootable,
  type DataArtifact,
  dataArtifactFile,
  makeArtifact,
} from './artifacts.ts';
import { imageLayer } from './layers/image-layer.ts';
import type { Phase } from './phase.ts';

export interface CaptureOptions {
  /** What distributors want of it; never none. */
  readonly formats: readonly ArtifactFormat[];
  /** Whether a later phase boots the image. */
  readonly booted: boolean;
  readonly kept: boolean;
}

export function capturePhase({ formats, booted, kept }: CaptureOptions): Phase {
  const wanted = [...new Set(formats)].sort();
  return {
    kind: 'capture',
    name: 'power off, flatten',
    subState: 'Building',
    // A Kiln of another version knows what it publishes by another digest, and may share the cache.
    inputs: { formats: wanted, digest: 'fsverity' },
    ...(kept && { layer: imageLayer(booted) }),
    async run(state, context) {
      const { machine, disk, dataDisks = [], ahead, source, ...rest } = state;
      await machine!.powerOff({ signal: context.signal });
      context.log.say('The machine is off; capturing its disk.');
      const shares = new Map<string, number>();
      const { directory, signal } = context;
      const onProgress = (file: string) => (share: number) => {
        shares.set(file, share);
        const done = [...shares.values()].reduce((a, b) => a + b, 0) / (wanted.length + dataDisks.length);
        context.progress({ label: 'copying', done: Math.round(done * 100), total: 100, unit: 'steps' });
      };
      const making = wanted.map(format =>
        makeArtifact(disk!, format, { directory, signal, onProgress: onProgress(format), ...(ahead && { ahead }) }),
      );
      const makingData = dataDisks.map(async ({ lun, disk }): Promise<DataArtifact> => {
        const name = dataArtifactFile(lun);
        return {
          lun,
          ...(await makeArtifact(disk, 'qcow2', { directory, name, signal, onProgress: onProgress(name) })),
        };
      });
      // Nothing is still being written when this ends.
      await Promise.allSettled<Artifact>([...making, ...makingData]);
      const [artifacts, dataArtifacts] = [await Promise.all(making), await Promise.all(makingData)];
      await ahead?.[Symbol.asyncDispose]();
      await machine!.destroy();
      for (const { path } of [disk!, ...dataDisks.map(({ disk }) => disk)]) await rm(path);
      const { path, format, virtualSize, allocatedSize } = bootable(artifacts);
      const { hyperVGeneration, osType, firmware } = source!;
      const image = { path, format, virtualSize, allocatedSize, hyperVGeneration, osType, firmware };
      return {
        state: { ...rest, source: source!, image, artifacts, ...(dataDisks.length > 0 && { dataArtifacts }) },
        bytes: [...artifacts, ...dataArtifacts].reduce((sum, artifact) => sum + artifact.allocatedSize, 0),
      };
    },
  };
}
