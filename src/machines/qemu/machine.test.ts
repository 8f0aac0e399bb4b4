/** What a machine does when QEMU itself hangs; real guests are in test/boot. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { MachineRequest, MachineShape } from '../machine.ts';
import type { Checkpoints } from './checkpoints.ts';
import type { ConsoleLog } from './console-log.ts';
import { DEADLINES } from './deadlines.ts';
import { newIdentity } from './identity.ts';
import { QemuMachine } from './machine.ts';
import type { Exit, QemuProcess } from './process.ts';

const NOWHERE = { ram: '/nowhere/ram', pieces: '/nowhere/pieces', devices: '/nowhere/devices' };

/** A machine whose QEMU answers nothing: a checkpoint of it ends when its process does. */
function hanging(deadlines: Partial<typeof DEADLINES.kvm>) {
  const end = Promise.withResolvers<Exit>();
  const process = {
    qmp: new PassThrough(),
    renewal: new PassThrough(),
    commands: new PassThrough(),
    exited: end.promise,
    complaint: '',
    kill: async () => end.resolve({ code: null, signal: 'SIGKILL' }),
  } as unknown as QemuProcess;
  const checkpoints = {
    take: async () => {
      await end.promise;
      throw new Error('QEMU has closed its control connection');
    },
  } as unknown as Checkpoints;
  return new QemuMachine({
    ...{ process, checkpoints, attendable: true, identity: newIdentity(), sshAddress: '', sshPort: 0 },
    ...{ console: {} as ConsoleLog, request: {} as MachineRequest, shape: {} as MachineShape },
    deadlines: { ...DEADLINES.kvm, giveUp: 30, ...deadlines },
    release: async () => {},
  });
}

test('a build that is called off does not wait for a QEMU that hangs while it freezes', async () => {
  await using machine = hanging({});
  const off = new AbortController();
  const freezing = machine.checkpoint({ memory: NOWHERE, signal: off.signal });
  off.abort(new Error('called off'));
  await assert.rejects(freezing, { code: 'MachineLost', message: /does not answer/ });
});

test('a QEMU that hangs while it freezes is lost in time', async () => {
  await using machine = hanging({ reconnect: 20 });
  // Nothing else keeps the process of this test alive.
  const alive = setTimeout(() => {}, 10_000);
  await assert.rejects(machine.checkpoint({ memory: NOWHERE }), { code: 'MachineLost' });
  assert.ok(machine.gone.aborted);
  clearTimeout(alive);
});
