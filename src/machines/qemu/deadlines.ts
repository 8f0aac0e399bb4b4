/** How long a guest may take. Emulated ones are slower by far. */
import { KilnError } from '../../arm/errors.ts';

/** In milliseconds. */
export interface Deadlines {
  readonly boot: number;
  readonly handshake: number;
  readonly reconnect: number;
  readonly powerOff: number;
  /** For QEMU, to give up freezing: it is ended then, whatever holds it. */
  readonly giveUp: number;
  /** Without new output for so long after a command's end, what it left running is no longer listened to. */
  readonly lastOutput: number;
}

export const MINUTE = 60_000;
export const DEADLINES: Readonly<Record<'kvm' | 'tcg', Deadlines>> = Object.freeze({
  kvm: {
    boot: 5 * MINUTE,
    handshake: 20_000,
    reconnect: MINUTE,
    powerOff: 2 * MINUTE,
    giveUp: 15_000,
    lastOutput: 2000,
  },
  tcg: {
    boot: 15 * MINUTE,
    handshake: MINUTE,
    reconnect: 3 * MINUTE,
    powerOff: 5 * MINUTE,
    giveUp: 30_000,
    lastOutput: 8000,
  },
});

/** The deadlines on this host. KILN_BOOT_DEADLINE (seconds) is for hosts that are slower than thought, or faster. Rejects with UsageError. */
export function deadlinesOf(accelerator: 'kvm' | 'tcg', env: NodeJS.ProcessEnv = process.env): Deadlines {
  const text = env.KILN_BOOT_DEADLINE;
  if (!text) return DEADLINES[accelerator];
  const seconds = Number(text);
  if (seconds >= 1 && seconds <= 86_400) return { ...DEADLINES[accelerator], boot: seconds * 1000 };
  throw new KilnError('UsageError', `KILN_BOOT_DEADLINE takes seconds from 1 to 86400, not "${text}".`);
}
