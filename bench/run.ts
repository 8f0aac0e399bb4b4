/**
 * Kiln against its rivals, and against the floor: the same job from the same disk, in turns. Writes bench/RESULTS.md after each measurement, so that one that is
 * interrupted keeps what it has. Nothing else should run on the machine meanwhile.
 *
 *     node_modules/.bin/node bench/run.ts [--rounds 3] [--only cold,warm,container,cached,last-step,overhead,queue] [--out FILE]
 *
 * Packer is needed (Debian: packer); virt-customize (guestfs-tools, and a kernel in /boot: linux-image-cloud-amd64) is measured where it is installed. KILN_CACHE
 * says where source images lie, TMPDIR where there is room for everything else: 40 GiB. All of that is gone afterwards.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CASES } from './cases.ts';
import { openLab, ROOT } from './lab.ts';
import { residentMemory } from './measure.ts';
import { measureQueue } from './queue.ts';
import { type Findings, render, versions } from './results.ts';
import { groundOf, proofSeconds, SUBJECTS, type Subject } from './subjects.ts';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, only: { type: 'string' }, out: { type: 'string' } },
});
const rounds = Number(options.rounds);
const chosen = options.only?.split(',') ?? CASES.map(({ name }) => name);
const unknown = chosen.filter(name => !CASES.some(each => each.name === name));
if (!(rounds >= 1) || unknown.length > 0)
  throw new Error(`--rounds is at least 1; --only knows ${CASES.map(({ name }) => name).join(', ')}`);
const cases = CASES.filter(({ name }) => chosen.includes(name));
const subjects = SUBJECTS.filter(({ name }) => cases.some(each => each.subjects.includes(name)));
const out = options.out ?? join(ROOT, 'bench/RESULTS.md');

const begun = performance.now();
const say = (text: string) => {
  const minutes = (performance.now() - begun) / 60_000;
  console.error(`${minutes.toFixed(1).padStart(5)} min  ${text}`);
};
const messageOf = (error: unknown) => (error as Error).message.trim().split('\n').join(' ');

/** Seconds, for the estimate: the build that the others stand on; what five steps store; the queue; the proof and the service. */
const PREPARATION = 180;
const QUEUE = 160;
const FIVE = 120;
const REST = 120;
const secondsOf = (list: readonly Subject[]) => list.reduce((sum, { about }) => sum + about, 0);
const estimate =
  PREPARATION +
  (chosen.includes('last-step') ? FIVE : 0) +
  (chosen.includes('queue') ? QUEUE : 0) +
  REST +
  secondsOf(subjects.filter(each => each.once)) +
  rounds * secondsOf(subjects.filter(each => !each.once));
say(
  `${rounds} rounds of ${subjects.map(({ name }) => name).join(', ')}: about ${Math.ceil(estimate / 60)} minutes where the processor is emulated.`,
);

await using lab = await openLab();
say('Preparing: one build whose layers the others stand on.');
const ground = await groundOf(lab);
const findings: Findings = {
  cases,
  rounds,
  machine: ground.machine,
  samples: {},
  missing: new Map(),
  versions: await versions(),
};
const write = async () => await writeFile(out, render(findings));

const able: Subject[] = [];
for (const subject of subjects) {
  const reason = await subject.missing?.();
  if (reason === undefined) able.push(subject);
  else skip(subject.name, reason);
}
for (let round = 1; round <= rounds; round++)
  for (const subject of able.filter(({ once, name }) => (round === 1 || !once) && !findings.missing.has(name))) {
    lab.interrupted.throwIfAborted();
    try {
      if (round === 1) await subject.prepare?.(ground);
      const sample = await subject.measure(ground, round);
      findings.samples[subject.name] = [...(findings.samples[subject.name] ?? []), sample];
      say(`round ${round}: ${subject.name} ${sample.seconds.toFixed(1)} s`);
    } catch (error) {
      skip(subject.name, `failed in round ${round}: ${messageOf(error)}`);
    }
    await write();
  }

lab.interrupted.throwIfAborted();
if (chosen.includes('queue'))
  try {
    findings.queue = await measureQueue(lab);
    say(`queue: ${findings.queue.atOnce.seconds.toFixed(1)} s, in a row ${findings.queue.inARow.seconds.toFixed(1)} s`);
  } catch (error) {
    skip('queue', messageOf(error));
  }
await write();
lab.interrupted.throwIfAborted();
findings.proof = await proofSeconds(ground).catch(error => void skip('boot proof', messageOf(error)));
findings.service = await residentMemory({ root: ROOT, home: lab.home, env: lab.env });
findings.complete = true;
await write();
say(`Written: ${out}`);
console.log(render(findings));

function skip(name: string, reason: string): undefined {
  findings.missing.set(name, reason);
  say(`${name}: ${reason}`);
}
