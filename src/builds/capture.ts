/** The capture phase: a clean power-off, then the overlay and what it stands on become the files that are published, each standalone and sparse. */

import { rm } from 'node:fs/promises';
import { type ArtifactFormat, bootable, makeArtifact } from './artifacts.ts';
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
      const { machine, disk, source, ...rest } = state;
      await machine!.powerOff({ signal: context.signal });
      await machine!.destroy();
      context.log.say('The machine is off; capturing its disk.');
      const shares = new Map<ArtifactFormat, number>();
      const making = wanted.map(format =>
        makeArtifact(disk!, format, {
          directory: context.directory,
          signal: context.signal,
          onProgress(share) {
            shares.set(format, share);
            const done = [...shares.values()].reduce((a, b) => a + b, 0) / wanted.length;
            context.progress({ label: 'copying', done: Math.round(done * 100), total: 100, unit: 'steps' });
          },
        }),
      );
      // Nothing is still being written when this ends.
      await Promise.allSettled(making);
      const artifacts = await Promise.all(making);
      await rm(disk!.path);
      const { path, format, virtualSize, allocatedSize } = bootable(artifacts);
      const { hyperVGeneration, osType, firmware } = source!;
      const image = { path, format, virtualSize, allocatedSize, hyperVGeneration, osType, firmware };
      return {
        state: { ...rest, source: source!, image, artifacts },
        bytes: artifacts.reduce((sum, artifact) => sum + artifact.allocatedSize, 0),
      };
    },
  };
}
