/**
 * Kiln against Packer: one template (apt-get install of one package, a fixed VHD out), the same base disk, the same accelerator and processor model, in
 * turn. Prints medians and ratios and writes bench/RESULTS.md. Boot proof off on both sides (Packer has none); its cost is printed apart.
 *
 *     node_modules/.bin/node bench/packer/run.ts [--rounds 3] [--no-proof]
 */
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { acquirePlatformImage } from '../../src/images/catalogue/acquire.ts';
import { run } from '../../src/processes/process.ts';
import { type Measured, measure, median, residentMemory } from './measure.ts';
import { preparePacker } from './packer-build.ts';

const ROOT = join(import.meta.dirname, '../..');
const TEMPLATE = join(ROOT, 'bench/packer/template.json');
const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, 'no-proof': { type: 'boolean' } },
});

interface Report {
  readonly run: {
    readonly machine: { accelerator: string; model: string; processors: number; memoryMiB: number };
    readonly phases: readonly { kind: string; name: string; seconds: number; bytes: number | null }[];
    readonly outputs: readonly { path: string; bytes: number }[];
  };
}

interface Round {
  readonly kiln: Measured;
  readonly packer: Measured;
  readonly report: Report['run'];
}

const scratch = await mkdtemp(join(tmpdir(), 'kiln-bench-'));
await run('chmod', ['0711', scratch]);
const home = join(scratch, 'home');
const cache = process.env.KILN_CACHE ?? join(home, 'cache');
try {
  const source = await acquirePlatformImage(
    { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
    { cacheDirectory: join(cache, 'sources'), report: console.error },
  );
  const template = JSON.parse(await readFile(TEMPLATE, 'utf8'));
  const inline: string[] = template.properties.customize[0].inline;
  const rounds: Round[] = [];
  for (let n = 1; n <= Number(options.rounds); n++) {
    const kiln = await kilnRound(TEMPLATE);
    const { machine } = kiln.report;
    const directory = join(scratch, 'packer');
    const lines = await preparePacker({
      directory,
      baseDisk: source.disk.path,
      sha256: source.sha256,
      inline,
      accelerator: machine.accelerator,
      cpu: machine.model.split('/')[2],
      processors: machine.processors,
      memoryMiB: machine.memoryMiB,
    });
    const packer = await measure(lines, {
      ...process.env,
      PACKER_CACHE_DIR: join(scratch, 'packer-cache'),
      CHECKPOINT_DISABLE: '1',
    });
    await rm(directory, { recursive: true, force: true });
    rounds.push({ kiln: kiln.measured, packer, report: kiln.report });
    console.error(`round ${n}: Kiln ${kiln.measured.seconds.toFixed(1)} s, Packer ${packer.seconds.toFixed(1)} s`);
  }
  const proof = options['no-proof'] ? undefined : await proofCost(template);
  const service = await residentMemory(ROOT, home, { ...process.env, KILN_CACHE: cache });
  const text = await render(rounds, proof, service);
  await writeFile(join(ROOT, 'bench/RESULTS.md'), text);
  console.log(text);
} finally {
  await rm(scratch, { recursive: true, force: true, maxRetries: 5 });
}

async function kilnRound(file: string): Promise<{ measured: Measured; report: Report['run'] }> {
  const measured = await measure([[join(ROOT, 'kiln'), ['--home', home, '--json', 'build', file]]], {
    ...process.env,
    KILN_CACHE: cache,
  });
  return { measured, report: (JSON.parse(measured.stdout) as Report).run };
}

/** One more build with the proof on: what its phase took. */
async function proofCost(template: { tags: Record<string, string> }): Promise<number> {
  const file = join(scratch, 'proven', 'template.json');
  await mkdir(join(scratch, 'proven'));
  await writeFile(file, JSON.stringify({ ...template, tags: {} }));
  const { report } = await kilnRound(file);
  return report.phases.find(phase => phase.kind === 'prove')!.seconds;
}

async function render(
  rounds: readonly Round[],
  proof: number | undefined,
  service: Awaited<ReturnType<typeof residentMemory>>,
): Promise<string> {
  const seconds = (of: 'kiln' | 'packer') => rounds.map(round => round[of].seconds);
  const [kiln, packer] = [median(seconds('kiln')), median(seconds('packer'))];
  const written = (of: 'kiln' | 'packer') => median(rounds.map(round => round[of].bytesWritten));
  const { machine, outputs } = rounds[0]!.report;
  const image = (await stat(outputs[0]!.path)).blocks * 512;
  const version = async (program: string, ...args: string[]) =>
    (await run(program, args)).stdout.split('\n')[0]!.trim();
  const phases = rounds[0]!.report.phases.map(({ kind }, index) => [
    kind,
    median(rounds.map(round => round.report.phases[index]!.seconds)).toFixed(1),
  ]);
  const mib = (count: number) => (count / 1024 ** 2).toFixed(0);
  return `# Results

Written by \`bench/packer/run.ts\` on ${new Date().toISOString().slice(0, 10)}; ${rounds.length} interleaved rounds, medians.

${cpus()[0]?.model.trim()}, ${cpus().length} processors, ${(totalmem() / 1024 ** 3).toFixed(0)} GiB, Linux ${release()}; accelerator ${machine.accelerator},
guest ${machine.model} with ${machine.processors} processors and ${machine.memoryMiB} MiB. ${await version('qemu-system-x86_64', '--version')}; Packer ${await version('packer', 'version')}; Node ${process.version}.

## One template, cold: apt-get update, install nginx-light, fixed VHD out

Same base disk, boot proof off. Kiln also generalizes and hashes; Packer does neither.

| | Kiln | Packer | Kiln / Packer |
|---|---|---|---|
| seconds, median | ${kiln.toFixed(1)} | ${packer.toFixed(1)} | **${(kiln / packer).toFixed(2)}** |
| seconds, each round | ${seconds('kiln')
    .map(s => s.toFixed(1))
    .join(', ')} | ${seconds('packer')
    .map(s => s.toFixed(1))
    .join(', ')} | |
| MiB written | ${mib(written('kiln'))} | ${mib(written('packer'))} | ${(written('kiln') / written('packer')).toFixed(2)} |
| bytes written per byte of image (${mib(image)} MiB allocated) | ${(written('kiln') / image).toFixed(2)} | ${(written('packer') / image).toFixed(2)} | |

Kiln's phases, median seconds: ${phases.map(([kind, time]) => `${kind} ${time}`).join(', ')}.
${proof === undefined ? 'What the boot proof adds was not measured in this run.' : `The boot proof, when it is on, takes ${proof.toFixed(1)} s more.`}

## The service

| | |
|---|---|
| \`kiln runs list\` on an existing state directory, database stopped | ${service.startSeconds.toFixed(2)} s, median of ${service.starts} |
| resident memory of an idle process with the state directory open | ${mib(service.node)} MiB |
| its PostgreSQL (proportional set size) | ${mib(service.postgres)} MiB |
`;
}
