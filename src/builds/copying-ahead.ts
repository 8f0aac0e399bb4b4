/**
 * While steps run, and generalizing, most of the VHD is copied already: all that the machine's disk stands on. Capturing makes up what the steps wrote. It costs them
 * little: the copying gives way to everything else.
 */
import { VhdAhead } from '../disks/vhd-ahead.ts';
import type { Phase } from './phase.ts';

/**
 * The phase, with the copying begun beside it unless it goes on since an earlier one: with the first that runs, since those before it are in layers that the disk stands on.
 * It ends when the phase fails: a machine that is kept holds no copy.
 */
export function copyingAhead(phase: Phase): Phase {
  return {
    ...phase,
    async run(state, context) {
      const ahead = state.ahead ?? new VhdAhead(state.disk!, context.directory);
      if (ahead !== state.ahead) context.own(ahead);
      try {
        return await phase.run({ ...state, ahead }, context);
      } catch (error) {
        await ahead[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}
