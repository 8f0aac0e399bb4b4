/** What a build starts from: a disk that was inspected and verified, and what one needs to know to boot it. */
import type { ContentDigest } from '../disks/content.ts';
import type { Provisioning } from '../machines/machine.ts';

export interface PlatformImageReference {
  readonly publisher: string;
  readonly offer: string;
  readonly sku: string;
  /** An exact version or `latest`. */
  readonly version: string;
}

/** Told while bytes move. `total` is missing when nobody knows it. */
export interface Progress {
  readonly label: string;
  readonly done: number;
  readonly total?: number;
  readonly unit: 'bytes' | 'steps';
}

/** Its digest is the identity of its content: part of every layer's key. */
export interface SourceImage extends ContentDigest {
  /** Where it comes from, for people: `Debian:debian-12:12-gen2:0.20261122.0`. */
  readonly name: string;
  /** The version that `latest` stood for. */
  readonly exactVersion: string;
  /** Absolute path; read-only, shared by builds as a backing file. */
  readonly disk: { readonly path: string; readonly format: 'qcow2' | 'raw' };
  readonly virtualSize: number;
  /** The data disks that belong to it, by their units; missing where there are none. */
  readonly dataDisks?: readonly SourceDataDisk[];
  readonly osType: 'Linux' | 'Windows';
  readonly hyperVGeneration: 'V1' | 'V2';
  readonly firmware: 'bios' | 'uefi';
  readonly provisioning: Provisioning;
}

export interface SourceDataDisk extends Pick<SourceImage, 'disk' | keyof ContentDigest | 'virtualSize'> {
  readonly lun: number;
}

export interface AcquireOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /** Plain sentences for the build log: aliases taken, downloads, bootstraps. */
  readonly report?: (line: string) => void;
}
