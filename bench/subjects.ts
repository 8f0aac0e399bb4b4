/** What is timed: programs and ways to run them, one build each. All take turns, so that what changes on the host meanwhile changes for all. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../src/processes/process.ts';
import { type JobTemplate, script, scriptSeconds } from './job.ts';
import { type Build, type Lab, phaseSeconds, type Report } from './lab.ts';
import { type Measured, measure } from './measure.ts';
import { mkosiMissing } from './rivals/mkosi.ts';
import { preparePacker } from './rivals/packer.ts';
import { prepareVirtCustomize, virtCustomizeEnv, virtCustomizeMissing } from './rivals/virt-customize.ts';

export interface Sample extends Measured {
  /** Each script's own time in the guest (s), where it is known. */
  readonly scripts?: readonly number[];
  /** Of waagent, which Azure runs as well: a script's time, too, but nobody else's here has it. */
  readonly deprovisioning?: number;
  readonly report?: Report;
}

/** What subjects know of earlier ones: the virtual machine that all get, and an image to convert. */
export interface Ground {
  readonly lab: Lab;
  readonly machine: Report['machine'];
  /** A qcow2 with what the builds make. */
  readonly image: string;
}

export interface Subject {
  readonly name: SubjectName;
  /** For people. */
  readonly title: string;
  /** Seconds on the machine of the first results: for the estimate only. */
  readonly about: number;
  /** Too slow, or too far away, to be run in every round. */
  readonly once?: boolean;
  /** Why it can't be measured here. */
  missing?(): Promise<string | undefined>;
  /** Not timed; before the first turn. */
  prepare?(ground: Ground): Promise<void>;
  measure(ground: Ground, round: number): Promise<Sample>;
}

export type SubjectName =
  | 'packer'
  | 'cold'
  | 'warm'
  | 'container'
  | 'cached'
  | 'last step'
  | 'convert'
  | 'virt-customize'
  | 'mkosi';

const CUSTOMIZE = 'customize';
const ONE = (output: string): JobTemplate => ({ steps: 'one', last: 'always', output });
const FIVE = (last: string): JobTemplate => ({ steps: 'five', last, output: 'five' });

/** What may have been taken from the store, and nothing else: a build that was faster, or slower, for another reason is not the one that is meant. */
function expectCached(build: Build, expected: (kind: string, index: number) => boolean): Build {
  for (const [index, { kind, name, cached }] of build.report.phases.entries())
    if (kind !== 'source' && cached !== expected(kind, index))
      throw new Error(`${kind} ${name} was ${cached ? '' : 'not '}taken from the store`);
  return build;
}

export const SUBJECTS: readonly Subject[] = [
  {
    name: 'container',
    title: 'Kiln, container (`--machine container --no-cache`)',
    about: 12,
    measure: async ({ lab }) =>
      expectCached(await lab.build(ONE('container'), ['--machine', 'container', '--no-cache']), () => false),
  },
  {
    name: 'cached',
    title: 'Kiln, unchanged template, everything stored',
    about: 5,
    measure: async ({ lab }, round) =>
      expectCached(await lab.build(ONE(`again-${round}`), []), kind => kind !== 'distribute'),
  },
  {
    name: 'convert',
    title: '`qemu-img convert` of the same image to a fixed VHD, flushed to the disk',
    about: 3,
    async measure({ lab, image }) {
      const directory = join(lab.directory, 'convert');
      await mkdir(directory, { recursive: true });
      try {
        const vhd = join(directory, 'image.vhd');
        const convert = ['convert', '-O', 'vpc', '-o', 'subformat=fixed,force_size=on', image, vhd];
        const lines = [['qemu-img', convert] as const, ['sync', [vhd]] as const];
        return await measure(lines, lab.options(process.env));
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
  },
  {
    name: 'warm',
    title: 'Kiln, warm VM (`--fresh 1`)',
    about: 110,
    measure: async ({ lab }) => expectCached(await lab.build(ONE('warm'), ['--fresh', '1']), kind => kind === 'boot'),
  },
  {
    name: 'last step',
    title: 'Kiln, the last of five steps changed',
    about: 30,
    async prepare({ lab }) {
      await lab.build(FIVE('first'), []);
    },
    async measure({ lab }, round) {
      const build = await lab.build(FIVE(`round-${round}`), []);
      const last = build.report.phases.findLastIndex(({ kind }) => kind === CUSTOMIZE);
      return expectCached(build, (_, index) => index < last);
    },
  },
  {
    name: 'cold',
    title: 'Kiln, cold VM (`--no-cache`)',
    about: 140,
    measure: async ({ lab }) => expectCached(await lab.build(ONE('cold'), ['--no-cache']), () => false),
  },
  {
    name: 'packer',
    title: 'Packer',
    about: 150,
    missing: async () =>
      (await run('packer', ['version']).catch(() => undefined)) ? undefined : 'packer is not installed',
    async measure({ lab, machine }) {
      const directory = join(lab.directory, 'packer');
      try {
        const lines = await preparePacker({
          directory,
          baseDisk: lab.source.disk.path,
          sha256: lab.source.sha256!,
          inline: script(),
          accelerator: machine.accelerator,
          cpu: machine.model.split('/')[2],
          processors: machine.processors,
          memoryMiB: machine.memoryMiB,
        });
        const cache = { PACKER_CACHE_DIR: join(lab.directory, 'packer-cache'), CHECKPOINT_DISABLE: '1' };
        const measured = await measure(lines, lab.options({ ...process.env, ...cache }));
        return { ...measured, scripts: scriptSeconds(measured.stdout) };
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
  },
  {
    name: 'virt-customize',
    title: 'virt-customize',
    about: 200,
    once: true,
    missing: () => virtCustomizeMissing(),
    async measure({ lab, machine }) {
      const directory = join(lab.directory, 'virt-customize');
      try {
        const { accelerator, processors } = machine;
        const job = { directory, baseDisk: lab.source.disk.path, inline: script(), accelerator, processors };
        const { appliance, build } = await prepareVirtCustomize(job);
        const env = virtCustomizeEnv(process.env, job);
        await measure(appliance, lab.options(env));
        return await measure(build, lab.options(env));
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
  },
  {
    name: 'mkosi',
    title: 'mkosi',
    about: 0,
    once: true,
    missing: mkosiMissing,
    measure: async () => {
      throw new Error('mkosi cannot do the job');
    },
  },
];

/** What everything else stands on, not timed: the layers of the unchanged template, and an image to convert. */
export async function groundOf(lab: Lab): Promise<Ground> {
  const { report } = await lab.build(ONE('first'), []);
  const image = join(lab.directory, 'image.qcow2');
  await run('qemu-img', ['convert', '-f', 'vpc', '-O', 'qcow2', report.outputs[0]!.path, image]);
  return { lab, machine: report.machine, image };
}

/** What the boot proof takes (s): everything else of the unchanged template is stored. */
export async function proofSeconds({ lab }: Ground): Promise<number> {
  const { report } = await lab.build({ ...ONE('proven'), bootProof: true }, []);
  return phaseSeconds(report, 'prove');
}
