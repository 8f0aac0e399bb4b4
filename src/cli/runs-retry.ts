/** `kiln runs retry`: the finished image of a run goes to the targets that it did not reach, in the process that was typed. */
import { errorFromBody } from '../arm/errors.ts';
import { cancelRun, startRun } from '../providers/image-builder/run.ts';
import { conclude, outcome, runListener } from './build-here.ts';
import type { GlobalOptions } from './command.ts';
import { openDisplay } from './display.ts';
import { interruptible } from './interrupt.ts';
import { findRun } from './run-rows.ts';
import { withService } from './session.ts';

/** @param id a whole id, its beginning, or `latest`. Errors: those of findRun and startRun; what the run failed of. */
export async function retryRun(id: string, global: GlobalOptions): Promise<void> {
  const display = openDisplay(process.stderr);
  const say = () => display.line('Canceling; nothing more is published. Once more ends Kiln at once.');
  await interruptible(
    signal =>
      withService(global, async service => {
        const { engine, machines } = service;
        const { kysely } = service.database;
        const run = await findRun(kysely, id);
        const runId = await startRun(engine, kysely, run.template_id, { where: 'here', machines, retry: run.id });
        service.listeners.set(runId, runListener(runId, { display, global, wish: {}, minutes: 0 }));
        const ended = await outcome(engine, runId, signal, () => cancelRun(engine, kysely, runId));
        display.done(ended.status === 'Succeeded' ? 'done' : 'failed');
        if (ended.status !== 'Succeeded') throw errorFromBody(ended.error!);
        await conclude(service, runId, global);
      }),
    say,
  );
}
