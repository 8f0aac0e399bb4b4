/** Why a machine was lost: what QEMU's end, its events and the console say, in words for a person. */
import { open, readFile } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import type { Exit } from './process.ts';
import type { QmpEvent } from './qmp.ts';

const TAIL_BYTES = 4096;
const TAIL_LINES = 8;

/** The last lines of a serial console, made printable; the bytes come from the guest. */
export async function consoleTail(file: string): Promise<string> {
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    handle = await open(file, 'r');
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read({
      buffer: Buffer.alloc(TAIL_BYTES),
      position: Math.max(0, size - TAIL_BYTES),
    });
    return printable(buffer.toString('utf8', 0, bytesRead))
      .split('\n')
      .slice(-TAIL_LINES)
      .join('\n');
  } catch {
    return '';
  } finally {
    await handle?.close();
  }
}

/** Without terminal sequences, control characters and empty lines. */
export function printable(text: string): string {
  return text
    .replace(/\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])/g, '')
    .replace(/\r/g, '\n')
    .replace(/[^\n\t\x20-\x7e\u00a0-\uffff]/g, '')
    .split('\n')
    .filter(line => line.trim() !== '')
    .join('\n');
}

/** The same on one line. */
export const oneLine = (text: string): string =>
  printable(text)
    .replace(/[\s\u2028\u2029]+/g, ' ')
    .trim();

/** How often the kernel has killed for lack of memory. Undefined where it does not say. */
export async function memoryKills(): Promise<number | undefined> {
  const text = await readFile('/proc/vmstat', 'utf8').catch(() => '');
  const count = /^oom_kill (\d+)$/m.exec(text)?.[1];
  return count === undefined ? undefined : Number(count);
}

/** QEMU ended and nobody asked it to. */
export function lostProcess(exit: Exit, complaint: string, killsSince: number): KilnError {
  const said = complaint ? ` QEMU said: ${complaint}` : '';
  if (/no space left on device|disk quota exceeded/i.test(complaint)) return diskFull(complaint);
  if (exit.signal === 'SIGKILL' && killsSince > 0)
    return new KilnError(
      'MachineLost',
      'The host ran out of memory and its kernel killed the virtual machine (QEMU).',
      {
        hint: 'Choose a smaller vmSize, or free memory on the host.',
      },
    );
  if (exit.signal === 'SIGBUS')
    return new KilnError(
      'DiskFull',
      'No space left on the file system that the memory of the virtual machine lies in.',
      {
        hint: 'That is /dev/shm, where it has room for all of the memory when the machine starts, else the run’s directory. Make room there, or choose a smaller vmSize.',
      },
    );
  if (exit.signal)
    return new KilnError('MachineLost', `The virtual machine (QEMU) was ended by ${exit.signal}.${said}`, {
      hint:
        exit.signal === 'SIGKILL'
          ? 'Somebody killed the process, or a limit on memory did.'
          : 'QEMU crashed: see its message.',
    });
  if (exit.code === 0)
    return new KilnError('GuestStopped', 'The guest powered itself off before the build was done.', {
      hint: 'No customizer may shut the machine down.',
    });
  return new KilnError('MachineLost', `The virtual machine (QEMU) ended with exit code ${exit.code}.${said}`);
}

/** The error that an event of QEMU stands for, if it means the end of a build. */
export function lostByEvent({ event, data }: QmpEvent, settled: boolean): KilnError | undefined {
  if (event === 'BLOCK_IO_ERROR') {
    if (data?.nospace === true) return diskFull(String(data?.reason ?? ''));
    if (data?.operation === 'write')
      return new KilnError('MachineLost', `The guest's disk cannot be written on the host: ${String(data?.reason)}.`);
  }
  if (event === 'GUEST_PANICKED') return panicked('');
  if (event === 'RESET' && data?.guest === true && settled)
    return new KilnError('GuestStopped', 'The guest restarted itself during the build.', {
      hint: 'No customizer may restart the machine.',
    });
  return undefined;
}

/** The guest's kernel gave up; `tail` is the printable end of its console. */
export const panicked = (tail: string): KilnError =>
  new KilnError('GuestStopped', `The guest's kernel panicked.${tail && ` Its console ends with:\n${tail}`}`, {
    hint: 'Look into the console log for what went before.',
  });

/** UEFI firmware tried everything; `tail` as above. `trusted`: with Secure Boot, which starts what is signed and nothing else. */
export const unbootable = (tail: string, trusted?: true): KilnError =>
  new KilnError(
    'GuestStopped',
    `The firmware found nothing that it may start.${tail && ` Its console ends with:\n${tail}`}`,
    {
      hint: trusted
        ? 'The machine has Secure Boot, since an image definition asks for Trusted Launch: the boot loader of the source must be signed (packages shim-signed and grub-efi-amd64-signed).'
        : 'The disk has no boot loader for UEFI: \\EFI\\BOOT\\BOOTX64.EFI of its EFI system partition.',
    },
  );

const diskFull = (reason: string): KilnError =>
  new KilnError(
    'DiskFull',
    `No space left on the host's file system for the disk of the virtual machine. ${reason}`.trim(),
  );
