/**
 * Machines without a guest, for tests of what goes over the wire: everything of a build is real (disks, layers, region stores, rows), except that nobody boots
 * the disk. Every command ends well, unless it is a template's script with a line `exit N`; questions about the guest's identity get an answer.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { convertDisk } from '../../src/disks/qemu-img.ts';
import type { Machine, MachineFactory } from '../../src/machines/machine.ts';

export interface GuestlessMachines extends MachineFactory {
  /**
   * While held, machines (all, or those of a name) begin to start and never finish; one that is to end waits for the release: what is seen of it meanwhile can be looked at.
   */
  hold(name?: string): void;
  /** How many are held now. */
  readonly held: number;
  release(): void;
}

export function guestlessMachines(): GuestlessMachines {
  let held: PromiseWithResolvers<void> | undefined;
  let only: string | undefined;
  let count = 0;
  return {
    get held() {
      return count;
    },
    hold(name) {
      held ??= Promise.withResolvers();
      only = name;
    },
    release() {
      held?.resolve();
      held = undefined;
    },
    async shape({ processors, memoryMiB, firmware }) {
      return { kind: 'qemu', processors, memoryMiB, firmware, accelerator: 'none', model: 'guestless' };
    },
    async start(request) {
      request.signal?.throwIfAborted();
      if (held && (only ?? request.name) === request.name) {
        const released = held.promise;
        count += 1;
        try {
          if (request.signal) await once(request.signal, 'abort');
          await released;
        } finally {
          count -= 1;
        }
        throw request.signal?.reason;
      }
      const { processors, memoryMiB, firmware } = request;
      return machine({ kind: 'qemu', processors, memoryMiB, firmware, accelerator: 'none', model: 'guestless' });
    },
  };
}

function machine(shape: Machine['shape']): Machine {
  const identity = `${randomBytes(16).toString('hex')}\n`;
  const key = `ssh-ed25519 ${randomBytes(32).toString('base64')}\n`;
  return {
    shape,
    user: 'kiln',
    async exec(command, { output, signal, stdin } = {}) {
      signal?.throwIfAborted();
      const exit = /^exit (\d+)$/m.exec(typeof stdin === 'string' || Buffer.isBuffer(stdin) ? stdin.toString() : '');
      if (exit && command.includes('/tmp/script_')) return { exitCode: Number(exit[1]) };
      if (command.includes('/etc/machine-id')) {
        const keys = command.includes('authorized_keys') ? '1\n' : '';
        output?.(Buffer.from(`${identity}${keys}${key}`), 'stdout');
      }
      return { exitCode: 0 };
    },
    async asRoot(script, options) {
      return await this.exec('sudo sh -s', { ...options, stdin: script });
    },
    async upload(source) {
      let bytes = 0;
      for await (const chunk of source) bytes += (chunk as Buffer).length;
      return bytes;
    },
    async powerOff() {},
    async destroy() {},
    async [Symbol.asyncDispose]() {},
  };
}

/** Writes a catalogue into a state directory in which each of these names (`publisher:offer:sku`) is one small empty disk. */
export async function emptyCatalogue(home: string, names: Readonly<Record<string, string>>): Promise<void> {
  const directory = join(home, 'catalogue-disks');
  await mkdir(directory, { recursive: true });
  const raw = join(directory, 'empty.raw');
  await writeFile(raw, Buffer.alloc(4 * 1024 * 1024));
  const disk = join(directory, 'empty.qcow2');
  await convertDisk({ path: raw, format: 'raw' }, { to: disk, format: 'qcow2' });
  const entries = Object.entries(names).map(([name, version]) => [
    name,
    { file: disk, version, hyperVGeneration: 'V1' },
  ]);
  await writeFile(join(home, 'catalogue.json'), JSON.stringify(Object.fromEntries(entries)));
}
