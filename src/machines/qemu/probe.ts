/** The probe guest: a boot sector that shows whether an accelerator runs guest code at a processor's own speed. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

/** probe.S, assembled: what comes before the boot signature. */
const CODE = Buffer.from(
  'faea067c000031c08ed88ec08ed0bc007cbaf803b052eee4920c02e6920f0116187d0f20c06683c8010f22c0ea317c0800b8100000008ed88ec08ed0' +
    'baf8030000b050eebf0000010031c0b9000c0000f3abc7050000010003100100c7050010010003200100bf00200100b883000000b900020000890783' +
    'c7080500002000e2f4b8200000000f22e0b8000001000f22d8b9800000c00f320d000100000f300f20c00d000000800f22c0eab17c00001800baf803' +
    '0000b04ceeb8010000000fa248c7c700000001b90010000048893f4881c700100000e2f4baf8030000b04deeb900c2eb0bffc975fcb044eebaf40000' +
    '00b010eef4ebfd900000000000000000ffff0000009acf00ffff00000092cf00ffff0000009aaf001f00f87c0000',
  'hex',
);

/** The whole boot sector. */
export function probeSector(): Buffer {
  const sector = Buffer.alloc(512);
  CODE.copy(sector);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

export interface ProbeOutcome {
  readonly works: boolean;
  /** Why not, as the end of a sentence. */
  readonly reason: string;
}

/** SeaBIOS does not boot from a disk of a single sector. */
const DISK_BYTES = 1024 * 1024;

/** Ten times what a busy host with a real accelerator needs. */
const LIMIT_MS = 6000;

/** `isa-debug-exit` ends QEMU with `value << 1 | 1`; the probe writes 0x10. */
const DONE = 0x21;

/** Runs the probe guest on an accelerator with the processor model that builds use. Takes at most six seconds. */
export async function probe(qemu: string, accelerator: string, cpu: string): Promise<ProbeOutcome> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'kiln-probe-'));
  try {
    const sector = path.join(directory, 'sector');
    await writeFile(sector, probeSector());
    await truncate(sector, DISK_BYTES);
    return await attempt(qemu, [
      ...['-no-user-config', '-nodefaults', '-display', 'none', '-machine', 'q35', '-m', '64M'],
      ...['-accel', accelerator, '-cpu', cpu, '-serial', 'stdio', '-no-reboot'],
      ...['-drive', `file=${sector.replaceAll(',', ',,')},format=raw,if=virtio,readonly=on`],
      ...['-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04'],
    ]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function attempt(qemu: string, args: readonly string[]): Promise<ProbeOutcome> {
  const child = spawn(qemu, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  let letters = '';
  let complaint = '';
  let late = false;
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    letters = (letters + text).slice(-64);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-4096);
  });
  const timer = setTimeout(() => {
    late = true;
    kill();
  }, LIMIT_MS);
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return judge({ exitCode: late ? undefined : exitCode, letters, complaint });
  } finally {
    clearTimeout(timer);
    process.removeListener('exit', kill);
  }
}

/** What a probe's end means. `exitCode` is undefined when its time was up, null when a signal ended it. */
export function judge(end: {
  readonly exitCode: number | null | undefined;
  readonly letters: string;
  readonly complaint: string;
}): ProbeOutcome {
  if (end.exitCode === DONE && end.letters.includes('D')) return { works: true, reason: '' };
  if (end.exitCode === undefined)
    return { works: false, reason: `a probe guest on it hung ${stage(end.letters)}, as kernels would` };
  const said = end.complaint
    .split('\n')
    .map(line => line.replace(/^\S*qemu-system-\S+: (error: )?/, '').trim())
    .find(line => line !== '' && !line.startsWith('warning:'));
  return { works: false, reason: `QEMU cannot start a guest on it${said ? `: ${said}` : ''}` };
}

function stage(letters: string): string {
  if (letters.includes('M')) return 'in a simple loop: its instructions are interpreted, not run by the processor';
  if (letters.includes('L')) return 'while it wrote to memory';
  if (letters.includes('P')) return 'while it entered 64-bit mode';
  if (letters.includes('R')) return 'while it entered protected mode';
  return 'before its first instruction';
}
