/** `kiln logs`: the build log of a run, as it is or as it grows. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { examples, globalOptions } from './command.ts';
import { findRun } from './run-rows.ts';
import { withService } from './session.ts';
import { paint, printable } from './terminal.ts';

/** How often new lines are looked for while following (ms). */
const POLL = 300;

export function register(command: Command): void {
  command
    .argument('[run]', 'id of a run, or its beginning', 'latest')
    .option('-f, --follow', 'wait for more until the run ends')
    .action(async (id: string, options: { follow?: boolean }) => {
      const { json } = globalOptions(command);
      await withService(globalOptions(command), async ({ database: { kysely } }) => {
        const { id: runId } = await findRun(kysely, id);
        for (let next = 0; ; ) {
          // Asked before the lines: what a run wrote before it ended is then surely among them.
          const run = await kysely.selectFrom('run').select('ended_at').where('id', '=', runId).executeTakeFirst();
          for (;;) {
            const lines = await kysely
              .selectFrom('log_line')
              .selectAll()
              .where('run_id', '=', runId)
              .where('seq', '>=', next)
              .orderBy('seq')
              .limit(2_000)
              .execute();
            if (lines.length === 0) break;
            next = lines.at(-1)!.seq + 1;
            process.stdout.write(lines.map(line => (json ? jsonLine(line) : textLine(line))).join(''));
          }
          if (!options.follow || !run || run.ended_at !== null) return;
          await sleep(POLL);
        }
      });
    });
  examples(command, [
    ['kiln logs', 'the log of the newest run'],
    ['kiln logs 3f2a -f', 'follow a run that goes on'],
    ['kiln logs 3f2a --json', 'one JSON object a line'],
  ]);
}

interface Line {
  readonly at: Date;
  readonly phase: number | null;
  readonly stream: string;
  readonly text: string;
}

function textLine({ at, stream, text: raw }: Line): string {
  const text = printable(raw);
  const time = paint('dim', at.toISOString().slice(11, 19));
  return stream === 'kiln' ? `${time} ${paint('bold', text)}\n` : `${time}   ${text}\n`;
}

const jsonLine = ({ at, phase, stream, text }: Line) => `${JSON.stringify({ at, phase, stream, text })}\n`;
