/** `--on-error`: what becomes of the machine when a step fails; the question, and the wait in front of a machine that is kept. */
import { createInterface } from 'node:readline';
import { KilnError } from '../arm/errors.ts';
import type { Failure } from '../builds/keep.ts';
import type { KeptEnd } from '../providers/image-builder/kept-machines.ts';
import { type ErrorWish, KEPT_MINUTES, ON_ERROR } from '../providers/image-builder/on-error.ts';
import type { CacheWish } from '../providers/image-builder/step-cache.ts';
import { again } from './again.ts';
import type { GlobalOptions } from './command.ts';
import type { Display } from './display.ts';
import { paint, printable } from './terminal.ts';

export interface ErrorOptions {
  readonly onError?: string;
  readonly keepFor?: string;
}

/** Streams that a person sits before, or not. */
export interface Terminals {
  readonly stdin: { readonly isTTY?: boolean };
  readonly stderr: { readonly isTTY?: boolean };
}

const UNITS: Readonly<Record<string, number>> = { s: 1 / 60, m: 1, h: 60 };
const MOST_MINUTES = 24 * 60;

/** Asks where somebody can answer; without --on-error and anybody to ask, the machine is ended. Errors: UsageError. */
export function errorWish(
  { onError, keepFor }: ErrorOptions,
  { yes, json }: Pick<GlobalOptions, 'yes' | 'json'>,
  { stdin, stderr }: Terminals = process,
): ErrorWish {
  const asked = stdin.isTTY === true && stderr.isTTY === true;
  const action = ON_ERROR.find(one => one === onError) ?? (asked && !yes && !json ? 'ask' : 'clean');
  if (action === 'ask' && !asked)
    throw new KilnError('UsageError', 'There is no terminal to ask at.', {
      hint: 'Say --on-error keep or --on-error clean.',
    });
  if (keepFor === undefined) return { action };
  if (action === 'clean') throw new KilnError('UsageError', '--keep-for is for --on-error keep or ask.');
  return { action, minutes: minutesOf(keepFor) };
}

function minutesOf(text: string): number {
  const [, number, unit = 'm'] = /^(\d{1,6})([smh])?$/.exec(text) ?? [];
  const minutes = Number(number) * UNITS[unit]!;
  if (minutes > 0 && minutes <= MOST_MINUTES) return minutes;
  throw new KilnError('UsageError', `--keep-for takes a time such as 30m or 2h, up to 24h, not "${text}".`);
}

/** Asks what becomes of the machine. No answer, the end of the input or of the build: it is ended. */
export async function askAbout(
  { phase, error, command, signal }: Failure,
  {
    display,
    wish,
    minutes = KEPT_MINUTES,
  }: { readonly display: Display; readonly wish: CacheWish; readonly minutes?: number | undefined },
): Promise<'keep' | 'clean'> {
  display.done('failed');
  display.line(`\n${paint('red', `${phase.kind} ${printable(phase.name)} failed:`, process.stderr)} ${error.message}`);
  display.line(`\nIts machine still runs. In another terminal:\n  ${command}`);
  display.line(`To try the step again, end the machine and build again. ${again(wish)}`);
  for (;;) {
    process.stderr.write(`[c]lean up, or [k]eep the machine for ${spoken(minutes)}? `);
    const answer = (await lineOf(signal))?.trim().toLowerCase();
    if (answer === undefined) process.stderr.write('\n');
    if (answer === 'k' || answer === 'keep') return 'keep';
    if (answer === undefined || answer === 'c' || answer === 'clean') return 'clean';
  }
}

/** Waits until a kept machine ends: by Enter, Ctrl-C (the signal), `kiln runs drop`, or at its deadline. @returns the sentence that says which */
export async function waitAtMachine(ended: Promise<KeptEnd>, signal: AbortSignal): Promise<string> {
  const done = new AbortController();
  try {
    const line = process.stdin.isTTY
      ? lineOf(AbortSignal.any([signal, done.signal]))
      : new Promise<undefined>(resolve => {
          signal.addEventListener('abort', () => resolve(undefined), { once: true });
          if (signal.aborted) resolve(undefined);
        });
    const how = await Promise.race([ended, line.then(() => 'enter' as const)]);
    return ENDS[how];
  } finally {
    done.abort();
  }
}

const ENDS: Readonly<Record<KeptEnd | 'enter', string>> = {
  enter: 'The machine is ended.',
  dropped: 'The machine was dropped (kiln runs drop, or its template was built again or deleted).',
  deadline: 'The time for which the machine was to be kept is over; it has been ended.',
  'ended by itself': 'The machine has ended by itself.',
  closing: 'The machine is ended.',
};

/** A line from the terminal, which stays as it is: Ctrl-C is a signal. Undefined at its end, or when the signal aborts. */
async function lineOf(signal: AbortSignal): Promise<string | undefined> {
  if (signal.aborted) return undefined;
  const lines = createInterface({ input: process.stdin, terminal: false });
  const close = () => lines.close();
  signal.addEventListener('abort', close, { once: true });
  try {
    return await new Promise(resolve => {
      lines.once('line', resolve);
      lines.once('close', () => resolve(undefined));
    });
  } finally {
    signal.removeEventListener('abort', close);
    lines.close();
    // Otherwise the process would wait for more.
    process.stdin.pause();
    process.stdin.unref?.();
  }
}

export const spoken = (minutes: number): string => {
  if (minutes < 1) return `${Math.round(minutes * 60)} s`;
  if (minutes === 60) return 'an hour';
  return minutes % 60 === 0 ? `${minutes / 60} hours` : `${Math.round(minutes)} minutes`;
};
