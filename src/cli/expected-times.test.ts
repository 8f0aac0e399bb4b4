import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { guestlessMachines } from '../../test/wire/machines.ts';
import type { PlannedPhase } from '../builds/layers/plan.ts';
import { json } from '../database/json.ts';
import type { MachineKind } from '../machines/machine.ts';
import { openService, type Service } from '../service.ts';
import { expectedTimes } from './expected-times.ts';

delete process.env.DATABASE_URL;

let service: Service;
before(async () => {
  const home = await mkdtemp(join(tmpdir(), 'kiln-times-'));
  await chmod(home, 0o711);
  service = await openService({ home, log: () => undefined, machines: guestlessMachines() });
});
after(async () => {
  await service?.close();
  if (service) await rm(service.home.root, { recursive: true, force: true });
});

const KINDS = ['source', 'boot', 'customize', 'capture'] as const;
const HOUR = 3_600_000;
let begun = Date.now();

/** A run of these phases; each later than the one before. @param stored how many phases were taken from layers */
async function ran(machine: MachineKind, stored: number, seconds: readonly number[]): Promise<void> {
  const id = randomUUID();
  begun += HOUR;
  const { kysely } = service.database;
  await kysely
    .insertInto('operation')
    .values({
      id,
      kind: 'test',
      resource_id: null,
      input: json({}),
      queue: 'test',
      status: 'Succeeded',
      ended_at: new Date(),
    } as never)
    .execute();
  await kysely
    .insertInto('run')
    .values({
      ...{
        id,
        operation_id: id,
        template_id: '/t',
        template_name: 't',
        state: 'Succeeded',
        correlation_id: id,
        ended_at: new Date(),
      },
      ...{ worker: null, started_at: new Date(begun), machine: json({ kind: machine }) },
    } as never)
    .execute();
  for (const [index, kind] of KINDS.entries())
    await kysely
      .insertInto('phase')
      .values({
        ...{ run_id: id, index, kind, name: kind, state: 'Succeeded', key: `${kind}-${machine}` },
        ...{ cached: index < stored, bytes: null, detail: null, error: null },
        ...{ started_at: new Date(begun), ended_at: new Date(begun + seconds[index]! * 1000) },
      } as never)
      .execute();
}

const plan = (stored: number): PlannedPhase[] =>
  KINDS.map((kind, index) => ({ kind, name: kind, key: `${kind}-qemu`, cached: index < stored }));
const expected = (stored: number, machine: MachineKind = 'qemu') =>
  expectedTimes(service.database.kysely, plan(stored), machine);

test('going on from a layer takes what it took last, of a machine or of an image', async () => {
  assert.deepEqual(await expected(2), [null, null, null, null]);
  await ran('qemu', 0, [9, 60, 20, 30]);
  assert.deepEqual(await expected(0), [9, 60, 20, 30]);
  assert.deepEqual(await expected(2), [null, null, 20, 30], 'nothing went on from a layer yet');
  await ran('qemu', 2, [1, 4, 21, 31]);
  assert.deepEqual(await expected(4), [1, 4, 0, 0]);
  await ran('qemu', 4, [1, 0.5, 0, 0]);
  await ran('container', 3, [1, 0.2, 0, 3]);
  assert.deepEqual(await expected(2), [1, 4, 21, 31]);
  assert.deepEqual(await expected(3), [1, 4, 0, 31]);
  assert.deepEqual(await expected(4), [1, 0.5, 0, 0]);
  assert.deepEqual(await expected(3, 'container'), [1, 0.2, 0, 3]);
});
