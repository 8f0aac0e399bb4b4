/** The machine of a failed step, kept for people to look into: who decides it, and how it passes from the build to whoever holds it. */
import { asKilnError, type KilnError } from '../arm/errors.ts';
import type { Machine } from '../machines/machine.ts';
import { shellQuoted } from '../machines/upload.ts';
import type { BuildState, Phase, PhaseContext, PhaseKind } from './phase.ts';

export interface Failure {
  readonly phase: Phase;
  readonly error: KilnError;
  readonly machine: Machine;
  /** What a person types on this host to get into the machine. */
  readonly command: string;
  /** The build's: whoever takes time to decide ends when it aborts. */
  readonly signal: AbortSignal;
}

/** Of a machine that was given away. */
export interface HeldMachine {
  readonly command: string;
  /** Aborted when the machine ends by itself. */
  readonly gone?: AbortSignal;
  /** Ends it and removes the run's directory. */
  readonly drop: () => Promise<void>;
}

/** A place for one machine, taken while the build goes to its end. */
export interface Place {
  readonly until: Date;
  /** Takes the machine over, in every case: whoever cannot hold it drops it. Never rejects. */
  hold(machine: HeldMachine): Promise<void>;
}

/** Asked when a step has failed. A sentence: why the machine is not kept although somebody wants it. Undefined: nobody does. */
export type Keeper = (failure: Failure) => Promise<Place | string | undefined>;

/** Phases that do what the template says; of others there is nothing to look into. */
const STEPS: ReadonlySet<PhaseKind> = new Set<PhaseKind>(['customize', 'generalize', 'validate']);

export interface Kept {
  readonly place: Place;
  readonly machine: Machine;
  readonly command: string;
}

/**
 * The phase; when it fails by itself while its machine runs on, the keeper is asked, and `keep` told of the place. The failure stays one, whatever becomes of that.
 */
export function keeping(phase: Phase, keeper: Keeper, keep: (kept: Kept) => void): Phase {
  if (!STEPS.has(phase.kind)) return phase;
  return {
    ...phase,
    async run(state, context) {
      try {
        return await phase.run(state, context);
      } catch (thrown) {
        await ask(asKilnError(thrown), state, context).catch(error => {
          context.log.say(`The machine cannot be kept: ${asKilnError(error).message}`);
        });
        throw thrown;
      }
    },
  };

  async function ask(error: KilnError, { machine }: BuildState, context: PhaseContext): Promise<void> {
    const { log, signal } = context;
    if (!machine?.access || machine.gone?.aborted || signal.aborted) return;
    const command = (await machine.access()).map(shellWord).join(' ');
    const answer = await keeper({ phase, error, machine, command, signal });
    if (typeof answer === 'string') return log.say(`The machine is not kept: ${answer}`);
    if (!answer) return;
    keep({ place: answer, machine, command });
    // Callers of the API read this log; how to get in is for those who have the host.
    const [until, id] = [answer.until.toISOString().slice(0, 19), context.runId.slice(0, 8)];
    log.say(`The machine is kept until ${until}Z. On Kiln's host: \`kiln runs show ${id}\` says how to get in,`);
    log.say(`\`kiln runs drop ${id}\` ends it.`);
  }
}

/** Quoted where a shell would read anything else in it. */
const shellWord = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : shellQuoted(word));
