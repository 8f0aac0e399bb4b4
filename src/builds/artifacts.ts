/**
 * The files that distributors publish, each made once however many targets want it. Making starts when the disk is
 * captured and runs beside the boot proof; publishing waits for the proof.
 */
import { join } from 'node:path';
import { sha256File } from '../disks/hash.ts';
import { convertDisk, inspect } from '../disks/qemu-img.ts';
import type { Progress } from '../images/source.ts';
import type { FinishedDisk } from './phase.ts';

export type ArtifactFormat = 'qcow2' | 'vhd';

/** Where they are in the run's directory. The qcow2 is the captured image itself. */
export const ARTIFACT_FILES: Readonly<Record<ArtifactFormat, string>> = Object.freeze({
  qcow2: 'image.qcow2',
  vhd: 'image.vhd',
});

export interface Artifact {
  readonly path: string;
  readonly format: ArtifactFormat;
  /** Of the file as it is, holes included: what a downloader compares. */
  readonly sha256: string;
  readonly virtualSize: number;
  readonly allocatedSize: number;
}

export interface Artifacts {
  /** Starts making the formats without waiting for them. */
  prepare(image: FinishedDisk, formats: Iterable<ArtifactFormat>): void;
  /** Says that one is there already. */
  have(artifact: Artifact): void;
  get(format: ArtifactFormat): Promise<Artifact>;
  /** Resolves when nothing is being made any more, whatever became of it. */
  settled(): Promise<void>;
}

export interface ArtifactsOptions {
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
}

export function artifacts(options: ArtifactsOptions): Artifacts {
  const made = new Map<ArtifactFormat, Promise<Artifact>>();
  return {
    prepare(image, formats) {
      for (const format of new Set(formats)) {
        const artifact = make(image, format, options);
        // Whoever asks for it gets the error; nobody asking is no unhandled rejection.
        artifact.catch(() => {});
        made.set(format, artifact);
      }
    },
    have(artifact) {
      made.set(artifact.format, Promise.resolve(artifact));
    },
    get(format) {
      const artifact = made.get(format);
      if (!artifact) throw new Error(`nobody prepared a ${format} artifact`);
      return artifact;
    },
    async settled() {
      await Promise.allSettled(made.values());
    },
  };
}

async function make(image: FinishedDisk, format: ArtifactFormat, options: ArtifactsOptions): Promise<Artifact> {
  let path = image.path;
  if (format === 'vhd') {
    path = join(options.directory, ARTIFACT_FILES.vhd);
    await convertDisk(image, {
      to: path,
      format: 'vhd',
      signal: options.signal,
      onProgress: share =>
        options.onProgress({ label: 'writing the VHD', done: Math.round(share * 100), total: 100, unit: 'steps' }),
    });
  }
  const [{ virtualSize, allocatedSize }, sha256] = await Promise.all([
    inspect(path, format, options.signal),
    sha256File(path, { signal: options.signal }),
  ]);
  return { path, format, sha256, virtualSize, allocatedSize };
}
