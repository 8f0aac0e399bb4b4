/**
 * Slots: what machines of one host share out among themselves, across processes and state directories. A slot gives a
 * machine its user id, its network namespace's name and its addresses. A claim is one file that appears whole or not at
 * all, so that a sweep finds every slot of a dead run, whenever it died.
 */
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';

export interface Slot {
  readonly number: number;
  /** Namespace, host interface, and nftables table are all called this. */
  readonly name: string;
  /** QEMU runs under this user and group id. From systemd's range for dynamic users, which distributions keep free. */
  readonly uid: number;
  /** The host's end of the link, IPv4. */
  readonly hostAddress: string;
  /** The namespace's end. */
  readonly address: string;
  readonly prefixLength: 30;
}

const SLOTS = 1024;
const FIRST_UID = 61184;
const CLAIMS = '/run/kiln/slots';

/** Every interface, namespace and table of a slot starts so. */
export const SLOT_PREFIX = 'kiln-';

/** What follows from a slot's number. Addresses are /30 networks of 198.18.0.0/15 (RFC 2544: never on the internet). */
export function slotOf(number: number): Slot {
  if (!Number.isInteger(number) || number < 0 || number >= SLOTS) throw new RangeError(`no slot ${number}`);
  const base = number * 4;
  const address = (host: number) => `198.18.${(base + host) >> 8}.${(base + host) & 255}`;
  return Object.freeze({
    number,
    name: `${SLOT_PREFIX}${number}`,
    uid: FIRST_UID + number,
    hostAddress: address(1),
    address: address(2),
    prefixLength: 30,
  });
}

/** Claims the first free slot for a run's directory, from `from` on. Needs root. Rejects with Conflict when all are taken. */
export async function claimSlot(directory: string, from = 0): Promise<Slot> {
  await mkdir(CLAIMS, { recursive: true, mode: 0o700 });
  const draft = path.join(CLAIMS, `.draft-${process.pid}-${performance.now()}`);
  await writeFile(draft, JSON.stringify({ directory }), { mode: 0o600 });
  try {
    for (let number = from; number < SLOTS; number++) {
      try {
        await link(draft, claimPath(number));
        return slotOf(number);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  } finally {
    await rm(draft, { force: true });
  }
  throw new KilnError('Conflict', `All ${SLOTS} machine slots of this host are taken.`, {
    target: CLAIMS,
    hint: 'Wait for other builds to finish, or start `kiln` on the state directories of builds that died.',
  });
}

/** Gives a slot back. Everything that carries its name must be gone. */
export async function releaseSlot(slot: Slot): Promise<void> {
  await rm(claimPath(slot.number), { force: true });
}

/** The slots that machines of a run's directory hold or left behind. */
export async function slotsOf(directory: string): Promise<Slot[]> {
  const names = await readdir(CLAIMS).catch(() => []);
  const found: Slot[] = [];
  for (const name of names.filter(name => /^\d+$/.test(name))) {
    const claim = await readFile(path.join(CLAIMS, name), 'utf8').catch(() => '{}');
    if ((JSON.parse(claim) as { directory?: string }).directory === directory) found.push(slotOf(Number(name)));
  }
  return found;
}

const claimPath = (number: number): string => path.join(CLAIMS, String(number));
