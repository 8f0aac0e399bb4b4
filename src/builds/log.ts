/**
 * The build log: the user's own record of a run, as `customization.log` in Azure's line format and as lines for rows
 * and screens. What a guest prints is untrusted bytes: decoded leniently, stripped of terminal control sequences, freed of the run's secrets,
 * long lines cut, the whole bounded.
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { stripVTControlCharacters } from 'node:util';
import { type Redactor, redactor } from './redact.ts';

/** `kiln` is what Kiln says itself; the others are the guest's streams. */
export type LogStream = 'kiln' | 'stdout' | 'stderr';

export interface LogLine {
  readonly at: Date;
  /** Index of the phase that was running. */
  readonly phase: number | null;
  readonly stream: LogStream;
  readonly text: string;
}

/** Longer lines are cut: a line of 826 KB once made an Azure build take hours (troubleshooting guide). */
export const MAX_LINE = 8 * 1024;
const MIB = 1024 * 1024;
/** Bytes of the log file that guest output may fill; what comes after is counted, not kept. */
export const MAX_GUEST_BYTES = 64 * MIB;
/** And what each phase may write when those before it have used that up: why a build failed is in its last lines. */
export const PHASE_BYTES = MIB;

const WRITE_SIZE = 64 * 1024;

export interface BuildLog {
  /** The phase that lines belong to from now on; the one before it has ended. */
  phase: number | null;
  /** Something that Kiln says. */
  say(text: string): void;
  /** The same log, where what Kiln says belongs to that phase, whichever run besides. */
  of(phase: number): Pick<BuildLog, 'say'>;
  /** A marker of Azure's format, such as `(telemetry) Starting provisioner shell`; for the file, not for screens. */
  mark(text: string): void;
  /** Output of the guest, in chunks as they come. */
  guest(chunk: Buffer, stream: 'stdout' | 'stderr'): void;
  /** Ends open lines of the guest: the command that wrote them has ended. */
  flush(): void;
  /** The last lines of Azure's format: how the build ended, and after how long. For the file, not for screens. */
  end(error?: string): void;
  /** Hides the run's secrets, as the log does in all that it is given. */
  readonly redact: Redactor;
  close(): Promise<void>;
}

export interface BuildLogOptions {
  readonly id: string;
  readonly path: string;
  readonly onLine: (line: LogLine) => void;
  /** A disk that is full must fail the run, not the process. */
  readonly onError: (error: Error) => void;
  /** Missing: the run has no secrets. */
  readonly redact?: Redactor;
}

/** Opens the log of a run. Lines go to the file at once (buffered by the stream) and to `onLine`. */
export function openBuildLog(options: BuildLogOptions): BuildLog {
  const file: WriteStream = createWriteStream(options.path, { flags: 'a', mode: 0o600 });
  file.on('error', options.onError);
  const { redact = redactor([]) } = options;
  const begun = performance.now();
  const splitters = { stdout: lineSplitter(redact), stderr: lineSplitter(redact) };
  let phase: number | null = null;
  let room = MAX_GUEST_BYTES;
  let flooded = false;
  let dropped = 0;

  /** Lines on their way to the file: written together, since a stream keeps a record of each write until it is done. */
  let pending = '';
  let scheduled: NodeJS.Immediate | undefined;
  const writeOut = () => {
    clearImmediate(scheduled);
    scheduled = undefined;
    if (pending !== '') file.write(pending);
    pending = '';
  };
  const write = (kind: 'OUT' | 'ERR', text: string): number => {
    const line =
      kind === 'OUT' ? outputLine(options.id, text) : `[${options.id}] PACKER ERR ${packerTime(new Date())} ${text}\n`;
    pending += line;
    if (pending.length > WRITE_SIZE) writeOut();
    else scheduled ??= setImmediate(writeOut);
    return line.length;
  };
  const isFull = () => room < 0;
  const keep = (text: string, stream: 'stdout' | 'stderr') => {
    if (isFull()) {
      dropped++;
      return;
    }
    room -= write('OUT', packerText(stream, text));
    options.onLine({ at: new Date(), phase, stream, text });
    if (!isFull()) return;
    log.say(
      flooded
        ? `That is ${PHASE_BYTES / MIB} MiB; what this phase prints from here on is not kept.`
        : `The guest printed more than ${MAX_GUEST_BYTES / MIB} MiB; from here on nothing of this phase is kept, and ${PHASE_BYTES / MIB} MiB of each later one.`,
    );
    flooded = true;
  };

  const say = (text: string, phase: number | null) => {
    for (const line of cleanLines(text, redact)) {
      write('OUT', packerText('kiln', line));
      options.onLine({ at: new Date(), phase, stream: 'kiln', text: line });
    }
  };

  /** Nothing more of this phase's guest is to come. */
  const endGuest = () => {
    log.flush();
    if (dropped > 0) log.say(`${dropped} lines of the guest were not kept.`);
    dropped = 0;
  };

  const log: BuildLog = {
    get phase() {
      return phase;
    },
    set phase(next) {
      if (next === phase) return;
      endGuest();
      phase = next;
      room = Math.max(room, PHASE_BYTES);
    },
    say: text => say(text, phase),
    of: phase => ({ say: text => say(text, phase) }),
    mark(text) {
      for (const line of cleanLines(text, redact)) write('ERR', line);
    },
    guest(chunk, stream) {
      if (isFull()) dropped += lineEnds(chunk);
      else for (const line of splitters[stream].push(chunk)) keep(line, stream);
    },
    flush() {
      for (const stream of ['stdout', 'stderr'] as const)
        for (const line of splitters[stream].end()) keep(line, stream);
    },
    end(error) {
      endGuest();
      const how = error === undefined ? `finished after ${spoken(performance.now() - begun)}.` : `errored: ${error}`;
      for (const line of cleanLines(`Build 'azure-arm' ${how}`, redact)) write('OUT', line);
      if (error !== undefined) write('OUT', '==> Builds finished but no artifacts were created.');
      log.mark('[INFO] (telemetry) Finalizing.');
    },
    redact,
    async close() {
      endGuest();
      await new Promise<void>(resolve => {
        writeOut();
        if (file.destroyed) return resolve();
        file.once('close', () => resolve());
        file.end();
      });
    },
  };
  return log;
}

const outputLine = (id: string, text: string): string => `[${id}] PACKER OUT ${text}\n`;

/** Packer prints a command's standard error with an arrow, its output indented. */
const packerText = (stream: LogStream, text: string): string =>
  `${stream === 'stdout' ? '    ' : '==> '}azure-arm: ${text}`;

/** A line as customization.log has it. */
export function formatLine(id: string, { stream, text }: Pick<LogLine, 'stream' | 'text'>): string {
  return outputLine(id, packerText(stream, text));
}

/** What is not kept is not looked at either: a flood must not cost the build its time. */
function lineEnds(chunk: Buffer): number {
  let count = 0;
  for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) count++;
  return count;
}

/**
 * Cuts a byte stream into printable lines without secrets; a carriage return alone redraws a line on a terminal, so it ends one too. A line without an end costs the same in
 * one chunk as in a million: only what is new is looked through for ends.
 */
export function lineSplitter(redact: Redactor = redactor([])): { push(chunk: Buffer): string[]; end(): string[] } {
  const decoder = new StringDecoder('utf8');
  /** What has come of a line that has not ended. */
  let rest = '';
  /** Whether it ends with a carriage return, which only what follows gives a meaning. */
  let returned = false;
  const split = (text: string): string[] => {
    let parts: string[] = [];
    if (returned || /[\r\n]/.test(text)) {
      parts = (rest + text).split(/\r?\n|\r(?=[^\n])/);
      rest = parts.pop()!;
    } else rest += text;
    if (text !== '') returned = text.endsWith('\r');
    if (rest.length > 4 * MAX_LINE + redact.longest) {
      // No end in sight: give it out in pieces rather than hold it in memory, but for what may be the beginning of a secret.
      const seen = redact(printable(rest));
      const given = Math.max(0, seen.length - Math.max(0, redact.longest - 1));
      parts.push(seen.slice(0, given));
      rest = seen.slice(given);
    }
    return parts.map(part => clean(part, redact)).filter(line => line !== '');
  };
  return {
    push: chunk => split(decoder.write(chunk)),
    end() {
      const lines = split(decoder.end());
      const last = clean(rest, redact);
      rest = '';
      returned = false;
      return last === '' ? lines : [...lines, last];
    },
  };
}

const printable = (text: string): string => stripVTControlCharacters(text).replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '');

/** A line without control sequences and secrets, and not endless. */
function clean(line: string, redact: Redactor): string {
  const text = redact(printable(line)).trimEnd();
  return text.length > MAX_LINE ? `${text.slice(0, MAX_LINE)} … (${text.length} characters)` : text;
}

/** What Kiln says may carry what a guest or a template says. */
const cleanLines = (text: string, redact: Redactor) =>
  text
    .split(/\r?\n|\r/)
    .map(line => clean(line, redact))
    .filter(line => line !== '');

/** `3 minutes 13 seconds`: the two largest units that are not nothing, as Packer says it. */
export function spoken(milliseconds: number): string {
  const whole = Math.round(milliseconds);
  const units = [
    [Math.floor(whole / 3_600_000), 'hour'],
    [Math.floor(whole / 60_000) % 60, 'minute'],
    [Math.floor(whole / 1000) % 60, 'second'],
    [whole % 1000, 'millisecond'],
  ] as const;
  const some = units.filter(([count]) => count > 0).slice(0, 2);
  return some.map(([count, unit]) => `${count} ${unit}${count === 1 ? '' : 's'}`).join(' ') || '0 seconds';
}

function packerTime(date: Date): string {
  return date.toISOString().slice(0, 19).replace(/-/g, '/').replace('T', ' ');
}
