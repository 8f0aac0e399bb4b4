/** What is built, by everyone: one package installed with apt-get, a fixed VHD out. As one step or as five; with the scripts' own time in what they print. */

export interface JobTemplate {
  /** One step, or one for each of the lines. */
  readonly steps: 'one' | 'five';
  /** What the last line writes; another text is another last step. */
  readonly last: string;
  /** Another name is another run output. */
  readonly output: string;
  readonly bootProof?: boolean;
}

/** The image that everyone starts from. */
export const SOURCE = { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' } as const;

/** What the template's size stands for is asked of Kiln's report; everyone gets the same. */
const VM_SIZE = 'Standard_D2s_v3';

const linesOf = (last: string) => [
  'sudo apt-get update',
  'sudo apt-get install -y --no-install-recommends nginx-light',
  'echo hello | sudo tee /etc/hello',
  'sudo ln -sf /etc/hello /etc/hello-again',
  `echo ${last} | sudo tee /etc/last`,
];

/** Uptime: whatever sets the guest's clock meanwhile, this one only goes on. The mark is put together by the shell, so that a line echoed is none. */
const mark = (word: 'begin' | 'end') => `echo "bench-${word} $(cut -d ' ' -f 1 /proc/uptime)"`;
const timed = (lines: readonly string[]) => [mark('begin'), ...lines, mark('end')];

/** The lines of the job as one script: what rivals run, and Kiln's one step. */
export const script = (last = 'always'): readonly string[] => timed(linesOf(last));

/** Seconds that each script ran for, in the guest, of what it printed. Output of guests is untrusted: what is no pair of marks is none. */
export function scriptSeconds(output: string): number[] {
  const marks = [...output.matchAll(/bench-(begin|end) (\d+\.\d+)/g)];
  const found: number[] = [];
  for (const [at, [, word, time]] of marks.entries())
    if (word === 'end' && marks[at - 1]?.[1] === 'begin') found.push(Number(time) - Number(marks[at - 1]![2]));
  return found;
}

/** Seconds that waagent ran for, in the guest, of what Kiln's script around it printed. */
export function deprovisionSeconds(output: string): number {
  return Number(/It took (\d+) ms\./.exec(output)?.[1] ?? 0) / 1000;
}

/** Kiln's template, but for where it lies and who builds it. */
export function templateOf({ steps, last, output, bootProof = false }: JobTemplate) {
  const scripts = steps === 'one' ? [script(last)] : linesOf(last).map(line => timed([line]));
  return {
    tags: bootProof ? {} : { 'kiln.bootProof': 'off' },
    properties: {
      source: { type: 'PlatformImage', ...SOURCE },
      vmProfile: { vmSize: VM_SIZE },
      customize: scripts.map((inline, index) => ({ type: 'Shell', name: `step ${index + 1}`, inline })),
      distribute: [{ type: 'VHD', runOutputName: output }],
    },
  };
}
