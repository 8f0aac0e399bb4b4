/** The optimize phase on real disks, with a guest that is played: it reads through the very overlay that a machine would. Real guests are in test/boot. */
import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { guestlessMachines } from '../../test/wire/machines.ts';
import { KilnError } from '../arm/errors.ts';
import { passOverFile } from '../disks/pass.ts';
import { convertDisk, MIB } from '../disks/qemu-img.ts';
import type { MachineFactory, MachineRequest } from '../machines/machine.ts';
import { run } from '../processes/process.ts';
import { type Artifact, qcow2Artifact } from './artifacts.ts';
import { shellPhase } from './customizers/shell.ts';
import { layerKey } from './layer.ts';
import { imageLayer } from './layers/image-layer.ts';
import { openBuildLog } from './log.ts';
import { optimizePhase } from './optimize.ts';
import type { BuildState, PhaseContext, PhaseLayer } from './phase.ts';

let directory: string;
let captured: Artifact;
const vhd = { path: '/nowhere/image.vhd', format: 'vhd' } as Artifact;
const size = { processors: 1, memoryMiB: 512 };

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-optimize-'));
  const raw = join(directory, 'image.raw');
  await writeFile(raw, Buffer.alloc(24 * MIB, 7));
  const path = join(directory, 'captured.qcow2');
  await convertDisk({ path: raw, format: 'raw' }, { to: path, format: 'qcow2' });
  captured = await qcow2Artifact(path, new AbortController().signal);
});
after(() => rm(directory, { recursive: true, force: true }));

/** A new one for each build: it goes when there is another in its place. */
const image = async (): Promise<Artifact> => {
  const path = join(directory, 'image.qcow2');
  await copyFile(join(directory, 'captured.qcow2'), path);
  return { ...captured, path };
};
const stateOf = (image: Artifact): BuildState => ({
  artifacts: [vhd, image],
  identity: { machineId: 'f'.repeat(32), hostKeys: [] },
  image: { ...image, hyperVGeneration: 'V1', osType: 'Linux', firmware: 'bios' },
});

/** Machines whose guests read while they start what `reads` says, in qemu-io's words, and end as `exits` says of their scripts. */
function machines({ reads, exits = 0 }: { readonly reads: readonly string[]; readonly exits?: number }) {
  const guestless = guestlessMachines();
  const seen: { request?: MachineRequest; ended: string[] } = { ended: [] };
  const factory: MachineFactory = {
    shape: guestless.shape,
    async start(request) {
      seen.request = request;
      await run('qemu-io', ['-C', '-f', 'qcow2', request.disk.path], { input: `${reads.join('\n')}\n` });
      const machine = await guestless.start(request);
      return {
        ...machine,
        exec: async (command, options) =>
          command.includes('/tmp/script_') ? { exitCode: exits } : await machine.exec(command, options),
        powerOff: async options => void seen.ended.push(options?.unplug ? 'unplugged' : 'powered off'),
      };
    },
  };
  return { factory, seen };
}

async function phaseIn(factory: MachineFactory, work: (context: PhaseContext) => Promise<void>): Promise<string[]> {
  const lines: string[] = [];
  const log = openBuildLog({
    id: 'run',
    path: join(directory, 'customization.log'),
    onLine: ({ text }) => void lines.push(text),
    onError: error => assert.fail(error),
  });
  const context: PhaseContext = {
    ...{ runId: 'run', directory, logDirectory: directory, log, machines: factory },
    ...{ signal: new AbortController().signal, progress: () => {}, own: () => {} },
  };
  try {
    await work(context);
  } finally {
    await log.close();
  }
  assert.ok(!(await readdir(directory)).includes('trace.qcow2'));
  return lines;
}

const script = () => ({ sha256: 'a'.repeat(64), path: join(directory, 'load.sh'), size: 1, uri: 'https://h/load.sh' });
const workload = () =>
  shellPhase({ role: 'optimize', number: 1, count: 1, type: 'Shell', name: '' }, { file: script() });

test('what the guest read lies at the beginning of the file that is published; the VHD stays', async () => {
  const { factory, seen } = machines({ reads: ['read 20M 1M', 'read 8M 1M', 'read 15M 1M'] });
  let summary: string | undefined;
  const original = await image();
  const lines = await phaseIn(factory, async context => {
    const result = await optimizePhase({ ...size, proof: true }).run(stateOf(original), context);
    const { artifacts, image: laid } = result.state;
    assert.equal(artifacts![0], vhd);
    assert.equal(artifacts![1]!.path, laid!.path);
    assert.notEqual(laid!.path, original.path);
    assert.equal(artifacts![1]!.fsverity, (await passOverFile(laid!.path)).fsverity);
    await run('qemu-img', ['compare', '-q', captured.path, laid!.path]);
    summary = result.summary;
    const { read, blockSize, before, after } = result.detail as Record<string, number> &
      Record<'before' | 'after', { requests: number; end: number }>;
    assert.deepEqual([read, blockSize], [3 * MIB, MIB]);
    assert.ok(before.end > 20 * MIB && after.end < 5 * MIB, JSON.stringify(result.detail));
    assert.ok(before.requests > after.requests, JSON.stringify(result.detail));
  });
  assert.ok(lines.some(line => line.startsWith('The image boots and answers')));
  assert.match(summary ?? '', /^3 MiB of the image were read; .* requests before, \d+ now\. /);
  const { copyOnRead, until, kind } = seen.request!;
  assert.deepEqual([copyOnRead, until, kind, seen.ended], [true, 'settled', 'qemu', ['unplugged']]);
});

test('the image as it was takes no room beside the one that is published, but for a layer that holds it', async () => {
  const { factory } = machines({ reads: ['read 8M 1M'] });
  const qcow2s = async () => (await readdir(directory)).filter(name => /^image.*\.qcow2$/.test(name)).sort();
  const optimized = (layer?: PhaseLayer) =>
    phaseIn(factory, async context => {
      const options = { ...size, proof: false, ...(layer && { layer }) };
      await optimizePhase(options).run(stateOf(await image()), context);
    });
  await optimized();
  assert.deepEqual(await qcow2s(), ['image-laid-out.qcow2']);
  await optimized(imageLayer(false));
  assert.deepEqual(await qcow2s(), ['image-laid-out.qcow2', 'image.qcow2']);
});

test('a workload that fails, and a boot that fails, say so', async () => {
  await writeFile(join(directory, 'load.sh'), 'true\n');
  const { factory, seen } = machines({ reads: [], exits: 3 });
  await phaseIn(factory, async context => {
    await assert.rejects(
      optimizePhase({ ...size, proof: false, workload: workload() }).run(stateOf(await image()), context),
      {
        code: 'StepFailed',
        message: 'The workload failed with exit code 3. It printed nothing.',
        target: 'properties.optimize.workload',
      },
    );
  });
  assert.deepEqual(seen.ended, []);
  const dead: MachineFactory = {
    shape: factory.shape,
    start: () => Promise.reject(new KilnError('GuestUnreachable', 'The guest was not ready within 9 minutes.')),
  };
  await phaseIn(dead, async context => {
    await assert.rejects(
      optimizePhase({ ...size, proof: true }).run(stateOf(await image()), context),
      (error: KilnError) => {
        assert.equal(error.code, 'BootProofFailed');
        assert.equal(error.message, 'The finished image does not come up: The guest was not ready within 9 minutes.');
        assert.match(error.hint ?? '', /^See trace-console\.log .* Without optimize in the template/);
        return true;
      },
    );
  });
});

test('the key is that of the workload’s bytes, and of whether the boot proves', () => {
  const key = (options: Parameters<typeof optimizePhase>[0]) => layerKey('', optimizePhase(options));
  const plain = key({ ...size, proof: true });
  assert.notEqual(plain, key({ ...size, proof: false }));
  assert.notEqual(plain, key({ ...size, proof: true, workload: workload() }));
  assert.equal(
    key({ ...size, proof: true, workload: workload() }),
    key({ ...size, proof: true, workload: workload() }),
  );
});
