/** How many lines of guests become rows: a flood must not fill the database, nor hide what later phases say. The file has more (`builds/log.ts`). */
import type { LogLine } from '../../builds/log.ts';

/** Rows of guest output of one run. */
export const MAX_LOG_ROWS = 200_000;
/** And of each phase, when those before it have used them up. */
export const PHASE_LOG_ROWS = 5_000;

/** @returns for each line, in order, what becomes a row: itself; nothing; or, the first time, a line that says so */
export function rowLimit(): (line: LogLine) => LogLine | undefined {
  let room = MAX_LOG_ROWS;
  let phase: number | null = null;
  let cut = false;
  return line => {
    if (line.stream === 'kiln') return line;
    if (line.phase !== phase) room = Math.max(room, PHASE_LOG_ROWS);
    phase = line.phase;
    if (room-- > 0) return line;
    if (cut) return undefined;
    cut = true;
    const rest = `the rest of this phase, and what is more than ${PHASE_LOG_ROWS} lines of a later one`;
    return {
      ...line,
      stream: 'kiln',
      text: `The guest printed more than ${MAX_LOG_ROWS} lines: ${rest}, is only in the files of the log.`,
    };
  };
}
