/**
 * The same job for Packer's qemu builder: same base disk, same accelerator, same processors and memory, the same lines in one shell
 * provisioner, a fixed VHD out. Packer's use_backing_file names no backing format, which QEMU 7.2 refuses, so it copies its base.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/processes/process.ts';
import type { ProgramLine } from '../measure.ts';

export interface PackerJob {
  readonly directory: string;
  readonly baseDisk: string;
  readonly sha256: string;
  readonly inline: readonly string[];
  readonly accelerator: string;
  readonly cpu: string | undefined;
  readonly processors: number;
  readonly memoryMiB: number;
}

/** Writes what Packer needs: a key, a cloud-init seed and the template. @returns the program lines to time, one after the other. */
export async function preparePacker(job: PackerJob): Promise<readonly ProgramLine[]> {
  await mkdir(job.directory, { recursive: true });
  const key = join(job.directory, 'key');
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const publicKey = (await run('cat', [`${key}.pub`])).stdout.trim();
  await writeFile(join(job.directory, 'meta-data'), 'instance-id: packer\nlocal-hostname: packer\n');
  await writeFile(
    join(job.directory, 'user-data'),
    `#cloud-config\nusers:\n  - name: packer\n    shell: /bin/bash\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys: ['${publicKey}']\n`,
  );
  const seed = join(job.directory, 'seed.img');
  await run('mformat', ['-C', '-i', seed, '-v', 'CIDATA', '-T', '2880', '::']);
  await run('mcopy', ['-i', seed, join(job.directory, 'meta-data'), join(job.directory, 'user-data'), '::']);
  const template = join(job.directory, 'packer.json');
  const output = join(job.directory, 'output');
  await writeFile(
    template,
    JSON.stringify({
      builders: [
        {
          type: 'qemu',
          accelerator: job.accelerator,
          iso_url: job.baseDisk,
          iso_checksum: `sha256:${job.sha256}`,
          disk_image: true,
          disk_size: '3072M',
          format: 'qcow2',
          headless: true,
          ssh_username: 'packer',
          ssh_private_key_file: key,
          ssh_timeout: '15m',
          shutdown_command: 'sudo systemctl poweroff',
          output_directory: output,
          vm_name: 'image.qcow2',
          memory: job.memoryMiB,
          cpus: job.processors,
          net_device: 'virtio-net',
          disk_interface: 'virtio',
          qemuargs: [
            ['-smp', `${job.processors}`],
            ...(job.cpu ? [['-cpu', job.cpu]] : []),
            ['-drive', `file=${output}/image.qcow2,if=virtio,cache=writeback,discard=ignore,format=qcow2`],
            ['-drive', `file=${seed},if=virtio,format=raw`],
          ],
        },
      ],
      provisioners: [{ type: 'shell', inline: job.inline }],
    }),
  );
  return [
    ['packer', ['build', '-color=false', template]],
    [
      'qemu-img',
      ['convert', '-O', 'vpc', '-o', 'subformat=fixed,force_size=on', `${output}/image.qcow2`, `${output}/image.vhd`],
    ],
  ];
}
