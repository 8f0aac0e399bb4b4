/**
 * What `optimize` gains: the first boot of images that are far away, with cloud-init, until it has finished. `node bench/first-boot/run.ts IMAGE.qcow2 …` prints a line for each.
 * QEMU reads the image over NBD from a server that makes it wait; what the guest writes goes into an overlay.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { inspect } from '../../src/disks/qemu-img.ts';
import { MAC_ADDRESS } from '../../src/machines/qemu/command-line.ts';
import { newIdentity } from '../../src/machines/qemu/identity.ts';
import { writeSeed } from '../../src/machines/qemu/seed.ts';
import { run } from '../../src/processes/process.ts';
import { type Line, type Remote, serveRemote } from './remote.ts';

/** An object store in another city. */
const LINE: Line = { latency: 50, bandwidth: 25 * 1024 * 1024 };
/** A boot that takes longer has hung (ms). */
const LIMIT = 10 * 60_000;

interface Boot {
  readonly seconds: number;
  readonly figures: Remote['figures'];
}

async function boot(image: string): Promise<Boot> {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-first-boot-'));
  try {
    const [socket, overlay, seed] = ['remote.sock', 'overlay.qcow2', 'seed.img'].map(name => join(directory, name));
    await writeSeed(seed!, { instanceId: directory, hostname: 'first', identity: newIdentity() });
    // What it stands on is said on the command line: the far copy.
    const { virtualSize } = await inspect(image, 'qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', overlay!, String(virtualSize)]);
    await using remote = await serveRemote(image, socket!, LINE);
    const begun = performance.now();
    await untilFinished(argumentsFor({ socket: socket!, overlay: overlay!, seed: seed! }));
    return { seconds: (performance.now() - begun) / 1000, figures: { ...remote.figures } };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function argumentsFor(files: { readonly socket: string; readonly overlay: string; readonly seed: string }): string[] {
  const far = { driver: 'nbd', server: { type: 'unix', path: files.socket }, 'read-only': true };
  const disk = {
    ...{ driver: 'qcow2', 'node-name': 'disk', file: { driver: 'file', filename: files.overlay } },
    backing: { driver: 'qcow2', 'read-only': true, file: far },
  };
  const seed = {
    driver: 'raw',
    'node-name': 'seed',
    'read-only': true,
    file: { driver: 'file', filename: files.seed },
  };
  return [
    ...['-nodefaults', '-display', 'none', '-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512'],
    ...['-cpu', 'qemu64', '-smp', '2', '-m', '2048', '-serial', 'stdio', '-device', 'virtio-rng-pci'],
    ...['-blockdev', JSON.stringify(disk), '-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
    ...['-blockdev', JSON.stringify(seed), '-device', 'virtio-blk-pci,drive=seed'],
    ...['-netdev', 'user,id=net', '-device', `virtio-net-pci,netdev=net,mac=${MAC_ADDRESS},romfile=`],
  ];
}

async function untilFinished(args: readonly string[]): Promise<void> {
  const qemu = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: LIMIT });
  let text = '';
  try {
    for await (const chunk of qemu.stdout.setEncoding('utf8')) {
      text = (text + chunk).slice(-4096);
      if (/Cloud-init v\. \S+ finished/.test(text)) return;
    }
    throw new Error(`The guest did not come up; its console ends with:\n${text}`);
  } finally {
    qemu.kill('SIGKILL');
  }
}

for (const image of process.argv.slice(2)) {
  const { seconds, figures } = await boot(image);
  const waited = (figures.waited / 1000).toFixed(1);
  console.log(
    `${basename(image)}: ${seconds.toFixed(1)} s, of which ${waited} s waiting, ${figures.requests} requests`,
  );
}
