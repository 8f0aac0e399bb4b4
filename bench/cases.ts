/** The cases of the comparison: what each is about, what it needs to be timed, the figure that is to be reached and whether it was. */
import { phaseSeconds } from './lab.ts';
import { median } from './measure.ts';
import type { Sample, SubjectName } from './subjects.ts';

/** Of one subject, in the order of the rounds; missing where it could not be measured. */
export type Samples = Readonly<Partial<Record<SubjectName, readonly Sample[]>>>;

export interface Row {
  /** What is compared. */
  readonly what: string;
  /** The figure, in words with its unit. */
  readonly figure: string;
  readonly target: string;
  readonly reached: boolean;
}

export interface Case {
  readonly name: string;
  readonly title: string;
  readonly subjects: readonly SubjectName[];
  /** Without those whose subjects were not measured. */
  rows(samples: Samples): readonly Row[];
}

const secondsOf = (samples: readonly Sample[]) => median(samples.map(({ seconds }) => seconds));
const sum = (values: readonly number[] = []) => values.reduce((a, b) => a + b, 0);
const seconds = (value: number) => `${value.toFixed(1)} s`;
/** Differences belong to one build, so they are taken round by round. */
const middle = (samples: readonly Sample[], of: (sample: Sample) => number) => median(samples.map(of));

/** Time of `one` as a part of the time of `other`. `strictly`: less than all of it. */
function ratio(samples: Samples, one: SubjectName, other: SubjectName, most: { part: number; text: string }): Row[] {
  const [ours, theirs] = [samples[one], samples[other]];
  if (!ours?.length || !theirs?.length) return [];
  const [a, b] = [secondsOf(ours), secondsOf(theirs)];
  const figure = `${seconds(a)} / ${seconds(b)} = ${(a / b).toFixed(a / b < 0.1 ? 3 : 2)}`;
  return [{ what: `${one} / ${other}`, figure, target: `at most ${most.text}`, reached: a / b <= most.part }];
}

/** A difference in seconds. */
function difference(what: string, value: number, most: number): Row {
  return { what, figure: seconds(value), target: `at most ${most} s`, reached: value <= most };
}

const scriptsOf = ({ scripts }: Sample) => sum(scripts);
const waagentOf = ({ deprovisioning = 0 }: Sample) => deprovisioning;
/** All that runs in the guest because Azure's contract says so. */
const ownOf = (sample: Sample) => scriptsOf(sample) + waagentOf(sample);
const phaseOf = (sample: Sample, kind: string) => phaseSeconds(sample.report!, kind);

export const CASES: readonly Case[] = [
  {
    name: 'cold',
    title: 'Cold, VM',
    subjects: ['packer', 'cold'],
    rows: samples => ratio(samples, 'cold', 'packer', { part: 1, text: '1.0' }),
  },
  {
    name: 'warm',
    title: 'Warm start, VM',
    subjects: ['packer', 'warm'],
    rows: samples => [
      ...ratio(samples, 'warm', 'packer', { part: 0.8, text: '0.8' }),
      ...(samples.warm ?? []).slice(0, 1).map(() => {
        const above = middle(samples.warm!, sample => sample.seconds - ownOf(sample));
        const own = `${seconds(middle(samples.warm!, scriptsOf))}, and waagent's, ${seconds(middle(samples.warm!, waagentOf))}`;
        return difference(`warm above its floor (the scripts' own time in its guest, ${own})`, above, 10);
      }),
    ],
  },
  {
    name: 'container',
    title: 'Container machine',
    subjects: ['packer', 'container', 'virt-customize', 'mkosi'],
    rows: samples => [
      ...ratio(samples, 'container', 'packer', { part: 1 / 20, text: '1/20 (0.050)' }),
      ...ratio(samples, 'container', 'virt-customize', { part: 1, text: '1.0' }),
      ...ratio(samples, 'container', 'mkosi', { part: 1, text: '1.0' }),
    ],
  },
  {
    name: 'cached',
    title: 'Unchanged template, everything stored, to a new VHD',
    subjects: ['packer', 'cached'],
    rows: samples => ratio(samples, 'cached', 'packer', { part: 1 / 50, text: '1/50 (0.020)' }),
  },
  {
    name: 'last-step',
    title: 'Last of five steps changed, VM',
    subjects: ['packer', 'last step'],
    rows: samples => [
      ...ratio(samples, 'last step', 'packer', { part: 1 / 4, text: '1/4 (0.25)' }),
      ...(samples['last step'] ?? []).slice(0, 1).map(() => {
        const all = samples['last step']!;
        const own = middle(all, scriptsOf);
        const capture = middle(all, sample => phaseOf(sample, 'capture'));
        const above = middle(all, sample => sample.seconds - ownOf(sample) - phaseOf(sample, 'capture'));
        const others = `waagent's (${seconds(middle(all, waagentOf))}) and capture (${seconds(capture)})`;
        return difference(`last step above its own time (${seconds(own)}), ${others}`, above, 5);
      }),
    ],
  },
  {
    name: 'overhead',
    title: "Overhead: total minus boot minus the scripts' own time",
    subjects: ['cold', 'container', 'convert'],
    rows: samples =>
      (['cold', 'container'] as const).flatMap(name => {
        const [ours, plain] = [samples[name], samples.convert];
        if (!ours?.length || !plain?.length) return [];
        const overhead = middle(ours, sample => sample.seconds - phaseOf(sample, 'boot') - ownOf(sample));
        const [times, convert] = [overhead / secondsOf(plain), secondsOf(plain)];
        return {
          what: `overhead of ${name}, without waagent's ${seconds(middle(ours, waagentOf))} / a plain convert`,
          figure: `${seconds(overhead)} / ${seconds(convert)} = ${times.toFixed(1)}`,
          target: 'at most 2',
          reached: times <= 2,
        };
      }),
  },
  { name: 'queue', title: 'Eight builds queued on two workers', subjects: [], rows: () => [] },
];
