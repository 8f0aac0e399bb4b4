/**
 * Machines of failed runs that live on for people to look into, as long as this process lives. The run's row says who holds one, until when, and how to get in;
 * whoever wants it gone takes the time out of the row (`dropKept`), from any process, and the holder sees it within a second. A holder that is killed takes its
 * machines with it (they are its children); what they leave is swept at the next start.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import type { HeldMachine, Place } from '../../builds/keep.ts';
import { whenReachable } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { ServiceLog } from '../../database/service-log.ts';
import { removeBuildResources } from './build-resources.ts';

/** How often the rows are asked whether somebody wants a machine gone (ms). */
const LOOK_EVERY = 1_000;
/** How long a row is tried to be written while the database is away (ms). */
const PATIENCE = 30_000;
const MIB = 1024 * 1024;

export type KeptEnd = 'dropped' | 'deadline' | 'ended by itself' | 'closing';

interface Held extends HeldMachine {
  readonly until: Date;
  ending?: Promise<void>;
  readonly ended: PromiseWithResolvers<KeptEnd>;
}

export interface KeptMachinesOptions {
  readonly database: Kysely<Schema>;
  readonly log: ServiceLog;
  /** This process, as rows name it. */
  readonly worker: () => string;
  /** Bytes that the host has left; undefined where it does not say. */
  readonly memoryLeft?: () => Promise<number | undefined>;
}

export class KeptMachines {
  readonly #options: KeptMachinesOptions;
  /** Places that are promised, and machines that are held, by run. */
  readonly #places = new Set<string>();
  readonly #held = new Map<string, Held>();
  #closing = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KeptMachinesOptions) {
    this.#options = options;
  }

  /**
   * A place for a run's machine, or a sentence that says why there is none.
   * @param atMost how many machines are kept at a time, with as much memory left for builds as this one has. Missing: somebody sits before this one and sees to it.
   */
  async reserve(
    runId: string,
    { minutes, memoryMiB, atMost }: { readonly minutes: number; readonly memoryMiB: number; readonly atMost?: number },
  ): Promise<Place | string> {
    if (this.#closing) return 'this process is closing.';
    if (atMost !== undefined) {
      if (this.#places.size >= atMost)
        return atMost === 0
          ? 'this server keeps none (kiln serve --keep).'
          : `this server keeps ${atMost} at a time, and has those of ${[...this.#places].map(id => `run ${id}`).join(', ')}.`;
      const left = await (this.#options.memoryLeft ?? memoryLeft)();
      if (left !== undefined && left < memoryMiB * MIB)
        return `the host has ${Math.round(left / MIB)} MiB of memory left, too little for the next build beside it.`;
    }
    this.#places.add(runId);
    const until = new Date(Date.now() + minutes * 60_000);
    return {
      until,
      hold: machine => this.#hold(runId, machine, until),
    };
  }

  /** The end of a run's machine; undefined when none is held here. */
  ended(runId: string): Promise<KeptEnd> | undefined {
    return this.#held.get(runId)?.ended.promise;
  }

  /** Ends a run's machine, and resolves when nothing is left of it. */
  async drop(runId: string, why: KeptEnd = 'dropped'): Promise<void> {
    const held = this.#held.get(runId);
    if (!held) return;
    // Set before anything ends: the end of the machine is heard of here again.
    held.ending ??= Promise.resolve().then(() => this.#end(runId, held, why));
    await held.ending;
  }

  /** Ends all, and takes no more. */
  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#timer);
    await Promise.all([...this.#held.keys()].map(runId => this.drop(runId, 'closing')));
  }

  async #hold(runId: string, machine: HeldMachine, until: Date): Promise<void> {
    const { log, worker } = this.#options;
    const { command, gone } = machine;
    const held: Held = { ...machine, until, ended: Promise.withResolvers() };
    // The row comes first: what is held and has none counts as dropped.
    const unwritten = await this.#write(runId, { kept_by: worker(), kept_until: until, kept_command: command }).then(
      () => undefined,
      String,
    );
    this.#held.set(runId, held);
    if (unwritten !== undefined) {
      log('error', 'A machine is not kept, since nobody would find it.', { run: runId, error: unwritten });
      return await this.drop(runId);
    }
    if (this.#closing) return await this.drop(runId, 'closing');
    if (gone?.aborted) return await this.drop(runId, 'ended by itself');
    gone?.addEventListener('abort', () => void this.drop(runId, 'ended by itself'), { once: true });
    const drop = `kiln runs drop ${runId.slice(0, 8)}`;
    log('info', 'The machine of a failed run is kept.', { run: runId, until: until.toISOString(), command, drop });
    this.#timer ??= setTimeout(() => void this.#look(), LOOK_EVERY);
  }

  async #end(runId: string, held: Held, why: KeptEnd): Promise<void> {
    const { log } = this.#options;
    await held
      .drop()
      .catch(error => log('error', 'A kept machine could not be cleared away.', { run: runId, error: String(error) }));
    const forget = async () => {
      await this.#write(runId, { kept_by: null, kept_until: null, kept_command: null });
      await removeBuildResources(this.#options.database, runId);
    };
    await forget().catch(error =>
      log('warning', 'It was not recorded that a kept machine is gone.', { run: runId, error: String(error) }),
    );
    this.#held.delete(runId);
    this.#places.delete(runId);
    log('info', 'A kept machine has ended.', { run: runId, why });
    held.ended.resolve(why);
  }

  async #look(): Promise<void> {
    const ids = [...this.#held.keys()];
    const wanted = await this.#options.database
      .selectFrom('run')
      .select('id')
      .where('id', 'in', ids)
      .where('kept_until', 'is not', null)
      .execute()
      .then(
        rows => new Set(rows.map(({ id }) => id)),
        () => new Set(ids), // The database is away; the deadline stays.
      );
    const ends = ids.flatMap(id => {
      const late = this.#held.get(id)!.until.getTime() <= Date.now();
      return wanted.has(id) && !late ? [] : [this.drop(id, late ? 'deadline' : 'dropped')];
    });
    await Promise.all(ends);
    this.#timer = this.#closing || this.#held.size === 0 ? undefined : setTimeout(() => void this.#look(), LOOK_EVERY);
  }

  async #write(
    runId: string,
    row: { kept_by: string | null; kept_until: Date | null; kept_command: string | null },
  ): Promise<void> {
    const write = () => this.#options.database.updateTable('run').set(row).where('id', '=', runId).execute();
    await whenReachable(write, AbortSignal.timeout(PATIENCE));
  }
}

/** Asks for the end of kept machines: that of a run, or all of a template. Their holders see it soon. */
export async function dropKept(
  database: Kysely<Schema>,
  of: { readonly run: string } | { readonly template: string },
): Promise<void> {
  await database
    .updateTable('run')
    .set({ kept_until: null })
    .where('kept_by', 'is not', null)
    .$if('run' in of, query => query.where('id', '=', (of as { run: string }).run))
    .$if('template' in of, query =>
      query.where('template_id', '=', (of as { template: string }).template.toLowerCase()),
    )
    .execute();
}

/** The same, and waits until the machine is gone. Errors: Conflict where the run has none; Timeout. */
export async function dropKeptOf(database: Kysely<Schema>, runId: string, patience = 60_000): Promise<void> {
  const held = async () => {
    const row = await database.selectFrom('run').select('kept_by').where('id', '=', runId).executeTakeFirst();
    return row?.kept_by != null;
  };
  if (!(await held()))
    throw new KilnError('Conflict', `No machine of run ${runId} is kept.`, {
      hint: '`kiln runs list` shows which runs have one: those of `kiln build --on-error keep` and of templates with errorHandling abort.',
    });
  await dropKept(database, { run: runId });
  for (const end = Date.now() + patience; await held(); await sleep(200))
    if (Date.now() > end)
      throw new KilnError('Timeout', `The process that holds the machine of run ${runId} does not end it.`, {
        hint: 'It holds its machines as long as it lives: end that process.',
      });
}

/** Clears the rows of holders that have died. @param isAlive of a worker */
export async function forgetKept(
  database: Kysely<Schema>,
  isAlive: (worker: string) => Promise<boolean>,
): Promise<void> {
  const rows = await database.selectFrom('run').select(['id', 'kept_by']).where('kept_by', 'is not', null).execute();
  for (const { id, kept_by } of rows)
    if (!(await isAlive(kept_by!))) {
      await database
        .updateTable('run')
        .set({ kept_by: null, kept_until: null, kept_command: null })
        .where('id', '=', id)
        .where('kept_by', '=', kept_by)
        .execute();
      await removeBuildResources(database, id);
    }
}

async function memoryLeft(): Promise<number | undefined> {
  const text = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}
