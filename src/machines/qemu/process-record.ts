/** Who a process is across the death of its owner: its number, and when it started, because numbers are used again. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

export interface ProcessRecord {
  readonly pid: number;
  readonly startTime: string;
}

/** Writes a record that appears whole or not at all, at once: no other code runs in between. Throws what the file system says. */
export function writeRecord(file: string, record: ProcessRecord): void {
  const draft = `${file}.draft`;
  try {
    writeFileSync(draft, JSON.stringify(record));
    renameSync(draft, file);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** The record in a text; undefined when it is none, which is what a full disk or a power cut leaves. */
export function parseRecord(text: string): ProcessRecord | undefined {
  try {
    const { pid, startTime } = JSON.parse(text) as Partial<ProcessRecord>;
    // Signals to 0, 1 and negative numbers reach others than the one that is meant.
    if (!Number.isSafeInteger(pid) || pid! <= 1 || typeof startTime !== 'string' || startTime === '') return undefined;
    return { pid: pid!, startTime };
  } catch {
    return undefined;
  }
}

/** The record in a file; undefined when there is none. */
export function readRecord(file: string): ProcessRecord | undefined {
  try {
    return parseRecord(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Whether the very process of a record still lives. */
export const alive = (record: ProcessRecord): boolean => startTimeOf(record.pid) === record.startTime;

/** This process. */
export const ownRecord = (): ProcessRecord => ({ pid: process.pid, startTime: startTimeOf(process.pid) ?? '' });

/** When a process started, in clock ticks since boot, as text; undefined when there is none of that number, or it is a zombie. */
export function startTimeOf(pid: number): string | undefined {
  try {
    // The name in parentheses may contain anything; fields count from behind it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
