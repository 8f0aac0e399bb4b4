/**
 * The same job for virt-customize (libguestfs): its appliance, a small VM of its own, mounts the disk and runs the script in a chroot. An overlay on the same
 * base disk, so that nothing is copied beforehand, and a fixed VHD out. It asks for no more memory than it says it wants.
 */
import { access, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/processes/process.ts';
import type { ProgramLine } from '../measure.ts';

export interface VirtCustomizeJob {
  readonly directory: string;
  readonly baseDisk: string;
  readonly inline: readonly string[];
  readonly accelerator: string;
  readonly processors: number;
}

/** Why it cannot be measured here; undefined when it can. */
export async function virtCustomizeMissing(env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  if (!(await run('virt-customize', ['--version']).catch(() => undefined)))
    return 'virt-customize is not installed (Debian: guestfs-tools)';
  const kernels = (await readdir('/boot').catch(() => [])).filter(name => name.startsWith('vmlinuz-'));
  const chosen = env.SUPERMIN_KERNEL ?? (kernels[0] === undefined ? undefined : join('/boot', kernels[0]));
  const readable =
    chosen !== undefined &&
    (await access(chosen).then(
      () => true,
      () => false,
    ));
  return readable ? undefined : 'no kernel for its appliance in /boot (Debian: linux-image-cloud-amd64)';
}

/** What its programs need around them: no libvirt, the same accelerator, and an appliance that is kept between two starts. */
export const virtCustomizeEnv = (env: NodeJS.ProcessEnv, job: Pick<VirtCustomizeJob, 'directory' | 'accelerator'>) => ({
  ...env,
  LIBGUESTFS_BACKEND: 'direct',
  ...(job.accelerator === 'tcg' && { LIBGUESTFS_BACKEND_SETTINGS: 'force_tcg' }),
  LIBGUESTFS_CACHEDIR: job.directory,
});

/** @returns the lines that make its appliance, which need not be timed, and those of the job */
export async function prepareVirtCustomize(
  job: VirtCustomizeJob,
): Promise<{ readonly appliance: readonly ProgramLine[]; readonly build: readonly ProgramLine[] }> {
  await mkdir(job.directory, { recursive: true });
  const path = (name: string) => join(job.directory, name);
  await writeFile(path('script'), `#!/bin/sh -e\n${job.inline.join('\n')}\n`, { mode: 0o755 });
  const overlay = (name: string): ProgramLine => [
    'qemu-img',
    ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', job.baseDisk, path(name)],
  ];
  const customize = (name: string, ...args: string[]): ProgramLine => [
    'virt-customize',
    ['--format', 'qcow2', '-a', path(name), '--smp', `${job.processors}`, ...args],
  ];
  return {
    appliance: [overlay('first.qcow2'), customize('first.qcow2', '--run-command', 'true')],
    build: [
      overlay('image.qcow2'),
      customize('image.qcow2', '--run', path('script')),
      [
        'qemu-img',
        ['convert', '-O', 'vpc', '-o', 'subformat=fixed,force_size=on', path('image.qcow2'), path('image.vhd')],
      ],
    ],
  };
}
