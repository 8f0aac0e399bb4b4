import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogLine, LogStream } from '../../builds/log.ts';
import { MAX_LOG_ROWS, PHASE_LOG_ROWS, rowLimit } from './row-limit.ts';

test('of a flood of lines the first become rows, and some of each later phase; that the rest does not is said once', () => {
  const limited = rowLimit();
  const rows: LogLine[] = [];
  const print = (phase: number, count: number, stream: LogStream = 'stdout') => {
    for (let n = 0; n < count; n++) {
      const row = limited({ at: new Date(), phase, stream, text: `line ${n}` });
      if (row) rows.push(row);
    }
  };
  print(2, MAX_LOG_ROWS + 3);
  print(2, 1, 'kiln');
  print(3, PHASE_LOG_ROWS + 3, 'stderr');
  print(4, 3);
  const guest = (of: number) => rows.filter(({ phase, stream }) => phase === of && stream !== 'kiln').length;
  assert.deepEqual([2, 3, 4].map(guest), [MAX_LOG_ROWS, PHASE_LOG_ROWS, 3]);
  const said = rows.filter(({ stream }) => stream === 'kiln').map(({ phase, text }) => `${phase} ${text}`);
  assert.deepEqual(said, [
    '2 The guest printed more than 200000 lines: the rest of this phase, and what is more than 5000 lines of a later one, is only in the files of the log.',
    '2 line 0',
  ]);
});
