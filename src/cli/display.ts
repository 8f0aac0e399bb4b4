/**
 * What a person sees while something takes time: finished steps stay as lines, the running one is a single line at the
 * bottom that is rewritten at most ten times a second. Without a terminal: plain lines, a step's start and its end.
 */
import type { Progress } from '../images/source.ts';
import { bytes, duration, paint, printable, terminalWidth, textWidth } from './terminal.ts';

export interface Display {
  /** A step begins; the one before, if any, is finished. */
  step(name: string): void;
  /** Something moves within the step. */
  progress(progress: Progress): void;
  /** A line that stays. May hold bytes from outside: all they can do is to show colours, and on a terminal only. */
  line(text: string): void;
  /** The last step is finished, or has failed; nothing of the moving line is left. Safe to call more than once. */
  done(outcome?: 'done' | 'failed'): void;
}

/** The part of a terminal that a display needs. */
export type DisplayStream = Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns' | 'hasColors'>;

interface Step {
  readonly name: string;
  readonly started: number;
  progress?: Progress;
  progressStarted: number;
}

const FRAME = 100;
/** Milliseconds between two lines about the same transfer where there is no terminal. */
const PLAIN_EVERY = 10_000;

/** Opens a display on `stream`; standard output stays free for results. `now` is in milliseconds. */
export function openDisplay(stream: DisplayStream = process.stderr, now: () => number = Date.now): Display {
  return stream.isTTY && process.env.TERM !== 'dumb' ? live(stream, now) : plain(stream, now);
}

function live(stream: DisplayStream, now: () => number): Display {
  let step: Step | undefined;
  let shown = '';
  let drawn = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;

  const erase = () => {
    if (shown !== '') stream.write('\r\x1b[K');
    shown = '';
  };
  const draw = () => {
    if (step === undefined || now() - drawn < FRAME) return;
    drawn = now();
    const text = fit(statusLine(step, now()), terminalWidth(stream as NodeJS.WriteStream) - 1);
    if (text === shown) return;
    stream.write(`\r${text}\x1b[K`);
    shown = text;
  };
  const finish = (outcome: 'done' | 'failed') => {
    clearInterval(timer);
    erase();
    if (step === undefined) return;
    const mark = outcome === 'done' ? '✓' : '✗';
    const colour = outcome === 'done' ? 'green' : 'red';
    const coloured = paint(colour, mark, stream as NodeJS.WriteStream);
    stream.write(`${coloured} ${step.name}  ${duration(now() - step.started)}\n`);
    step = undefined;
  };

  return {
    step(name) {
      finish('done');
      step = { name: printable(name), started: now(), progressStarted: now() };
      drawn = Number.NEGATIVE_INFINITY;
      draw();
      timer = setInterval(draw, FRAME);
      timer.unref();
    },
    progress(progress) {
      if (step !== undefined) moved(step, progress, now());
      draw();
    },
    line(text) {
      erase();
      stream.write(`${coloured(text, stream)}\n`);
      drawn = Number.NEGATIVE_INFINITY;
      draw();
    },
    done(outcome = 'done') {
      finish(outcome);
    },
  };
}

function plain(stream: DisplayStream, now: () => number): Display {
  let step: Step | undefined;
  let told = 0;
  const finish = (outcome: 'done' | 'failed') => {
    if (step === undefined) return;
    stream.write(`${step.name}: ${outcome}, ${duration(now() - step.started)}\n`);
    step = undefined;
  };
  return {
    step(name) {
      finish('done');
      step = { name: printable(name), started: now(), progressStarted: now() };
      told = now();
      stream.write(`${step.name} ...\n`);
    },
    progress(progress) {
      if (step === undefined) return;
      moved(step, progress, now());
      if (now() - told < PLAIN_EVERY) return;
      told = now();
      stream.write(`  ${printable(progress.label)}: ${amount(step, now())}\n`);
    },
    line(text) {
      stream.write(`${printable(text)}\n`);
    },
    done(outcome = 'done') {
      finish(outcome);
    },
  };
}

function moved(step: Step, progress: Progress, at: number): void {
  if (step.progress?.label !== progress.label) step.progressStarted = at;
  step.progress = progress;
}

function statusLine(step: Step, at: number): string {
  const head = `  ${step.name}  ${duration(Math.floor((at - step.started) / 1000) * 1000).replace('.0', '')}`;
  const { progress } = step;
  if (progress === undefined) return head;
  const label = progress.label === step.name ? '' : `  ${printable(progress.label)}`;
  const bar = progress.total ? `  ${progressBar(progress.done / progress.total)}` : '';
  return `${head}${label}${bar} ${amount(step, at)}`;
}

/** Twenty columns that fill up. */
export function progressBar(share: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * 20);
  return `[${'#'.repeat(filled)}${'-'.repeat(20 - filled)}]`;
}

function amount(step: Step, at: number): string {
  const { done, total, unit } = step.progress!;
  const share = total ? `${Math.floor((Math.min(done, total) / total) * 100)} %` : '';
  if (unit === 'steps') return !total ? String(done) : total === 100 ? share : `${share} (${done} of ${total})`;
  const seconds = (at - step.progressStarted) / 1000;
  const rate = seconds >= 1 ? `, ${bytes(done / seconds)}/s` : '';
  return total ? `${share} (${bytes(done)} of ${bytes(total)}${rate})` : `${bytes(done)}${rate}`;
}

/** Cuts a text that would wrap: a wrapped line cannot be rewritten. */
function fit(text: string, columns: number): string {
  return textWidth(text) <= columns ? text : `${[...text].slice(0, Math.max(0, columns - 1)).join('')}…`;
}

/** Made printable, with the colours that were in it where the terminal shows colours. */
function coloured(text: string, stream: DisplayStream): string {
  const parts = text.split(/(\x1b\[[\d;]*m)/);
  if (parts.length === 1 || stream.hasColors?.() !== true) return printable(text);
  return `${parts.map((part, index) => (index % 2 === 1 ? part : printable(part))).join('')}\x1b[0m`;
}
