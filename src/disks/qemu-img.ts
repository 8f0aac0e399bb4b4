/** Disk images through qemu-img: what a file is, overlays on it, other formats of it. */
import { randomUUID } from 'node:crypto';
import { chmod, rm, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { run } from '../processes/process.ts';
import { writeDurably } from './durable.ts';

/** The formats Kiln reads and writes. `vhd` is what QEMU calls `vpc`. */
export type DiskFormat = 'qcow2' | 'raw' | 'vhd';

export interface DiskFile {
  readonly path: string;
  readonly format: DiskFormat;
}

export interface DiskInfo {
  /** QEMU's word for it, except that `vpc` is `vhd`. */
  readonly format: string;
  /** Bytes that a guest sees. */
  readonly virtualSize: number;
  /** Bytes that the file occupies on the host. */
  readonly allocatedSize: number;
  readonly backingFile?: string;
  readonly backingFormat?: string;
}

export interface ConvertOptions {
  readonly to: string;
  readonly format: DiskFormat;
  readonly signal?: AbortSignal;
  /** Fraction done, 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
}

export const MIB = 1024 * 1024;

export const QEMU_NAMES: Readonly<Record<DiskFormat, string>> = { qcow2: 'qcow2', raw: 'raw', vhd: 'vpc' };

/**
 * What qemu-img says about a disk of Kiln's own. Without `format` QEMU probes the file, so never without for a disk from
 * outside (`inspectUntrusted` is for those). QEMU's probe takes a fixed VHD for a raw disk: name that format.
 */
export async function inspect(path: string, format?: DiskFormat, signal?: AbortSignal): Promise<DiskInfo> {
  const file = format ? openArguments({ path, format }) : [resolve(path)];
  // -U: a running machine may hold the disk's lock.
  const { stdout } = await run('qemu-img', ['info', '-U', '--output=json', ...file], { ...(signal && { signal }) });
  const info = JSON.parse(stdout) as {
    format: string;
    'virtual-size': number;
    'backing-filename'?: string;
    'backing-filename-format'?: string;
  };
  const backingFile = info['backing-filename'];
  const backingFormat = info['backing-filename-format'];
  return {
    format: info.format === 'vpc' ? 'vhd' : info.format,
    virtualSize: info['virtual-size'],
    allocatedSize: (await stat(path)).blocks * 512,
    ...(backingFile !== undefined && { backingFile }),
    ...(backingFormat !== undefined && { backingFormat }),
  };
}

/** Makes an empty qcow2 disk of so many bytes, readable by nobody else on this host. It takes no room before something is written. */
export async function createDisk(path: string, virtualSize: number): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', resolve(path), String(virtualSize)]);
  await chmod(path, 0o600);
}

/**
 * Makes a qcow2 file that holds only what will differ from `backing`, which must not change as long as the overlay lives.
 * `virtualSize` in bytes grows the disk; a smaller one than the backing disk's is ignored, since cutting a disk off destroys it.
 */
export async function createOverlay(request: {
  readonly backing: DiskFile;
  readonly path: string;
  readonly virtualSize?: number;
  /** The overlay names `backing` by its file name alone, which is in the same directory: a chain that is linked elsewhere is whole there. */
  readonly beside?: boolean;
}): Promise<Pick<DiskInfo, 'virtualSize'>> {
  const backing = { ...request.backing, path: resolve(request.backing.path) };
  const { virtualSize } = await inspect(backing.path, backing.format);
  const size = Math.max(virtualSize, request.virtualSize ?? 0);
  // QEMU's driver would believe a VHD's rounded geometry. As a raw disk it has its footer at the end, which an overlay of the true size leaves out.
  if (backing.format === 'vhd' && size > virtualSize) throw new Error('a disk that stands on a VHD does not grow');
  const backingFormat = backing.format === 'vhd' ? 'raw' : QEMU_NAMES[backing.format];
  const path = resolve(request.path);
  await run('qemu-img', [
    'create',
    ...['-q', '-f', 'qcow2', '-b', request.beside ? basename(backing.path) : backing.path, '-F', backingFormat, path],
    String(size),
  ]);
  // What steps write to it is for nobody else on this host; QEMU gets it opened.
  await chmod(path, 0o600);
  return { virtualSize: size };
}

/**
 * Writes `from` (with all its backing files) as a sparse file of another format: complete and flushed under `to`, or not at all.
 * A VHD is a fixed one with a whole number of MiB, as Azure demands: the disk grows by less than a MiB where needed.
 */
export async function convertDisk(from: DiskFile, options: ConvertOptions): Promise<DiskInfo> {
  const signal = options.signal && { signal: options.signal };
  const overlay = `${options.to}.grown-${randomUUID().slice(0, 8)}`;
  try {
    let source = from;
    if (options.format === 'vhd') {
      const { virtualSize } = await inspect(from.path, from.format);
      if (virtualSize % MIB !== 0) {
        // A VHD can't be a backing file here: its driver would believe the rounded geometry instead of the size.
        const backing = from.format === 'vhd' ? { path: `${overlay}.qcow2`, format: 'qcow2' as const } : from;
        if (backing !== from) await convertDisk(from, { to: backing.path, format: 'qcow2', ...signal });
        await createOverlay({ backing, path: overlay, virtualSize: Math.ceil(virtualSize / MIB) * MIB });
        source = { path: overlay, format: 'qcow2' };
      }
    }
    await writeDurably(resolve(options.to), temporary =>
      run('qemu-img', ['convert', '-p', ...openArguments(source), ...targetArguments(options.format), temporary], {
        ...signal,
        onLine: line => {
          const percent = /\(([\d.]+)\/100%\)/.exec(line);
          if (percent) options.onProgress?.(Number(percent[1]) / 100);
        },
      }),
    );
    return await inspect(options.to, options.format);
  } finally {
    await rm(overlay, { force: true });
    await rm(`${overlay}.qcow2`, { force: true });
  }
}

/**
 * How qemu-img is told to open a file: always with its format. QEMU takes the size of some makers' VHDs from the rounded
 * cylinder geometry; the footer's current size is the true one (Azure goes by it).
 */
function openArguments({ path, format }: DiskFile): string[] {
  const file = resolve(path);
  if (format !== 'vhd') return ['-f', QEMU_NAMES[format], file];
  const escaped = file.replaceAll(',', ',,');
  return ['--image-opts', `driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=${escaped}`];
}

function targetArguments(format: DiskFormat): string[] {
  return format === 'vhd'
    ? ['-O', 'vpc', '-o', 'subformat=fixed,force_size=on']
    : ['-O', QEMU_NAMES[format], ...(format === 'qcow2' ? ['-o', 'compat=1.1,lazy_refcounts=off'] : [])];
}
