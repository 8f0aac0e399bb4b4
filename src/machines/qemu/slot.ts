/**
 * Slots: what machines of one host share out among themselves, across processes and state directories. A slot gives a
 * machine its user id, its network namespace's name and its addresses. A claim is one file that appears whole or not at
 * all, so that a sweep finds every slot of a dead run, whenever it died.
 */
import { readFileSync } from 'node:fs';
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { ownRecord, type ProcessRecord, parseRecord } from './process-record.ts';

export interface Slot {
  readonly number: number;
  /** Namespace, host interface, and nftables table are all called this. */
  readonly name: string;
  /** QEMU runs under this user and group id. */
  readonly uid: number;
  /** The host's end of the link, IPv4. */
  readonly hostAddress: string;
  /** The namespace's end. */
  readonly address: string;
  readonly prefixLength: 30;
}

const SLOTS = 1024;
const CLAIMS = '/run/kiln/slots';

/**
 * The first user id of slots. Nobody gives out 65536 to 99999 by himself: systemd leaves 65536 to 524287 unused (its UIDS-GIDS document; 61184 to
 * 65519 are its services with DynamicUser=), Debian's adduser ends at 59999, subordinate ids begin at 100000. A container whose user namespace
 * knows 65536 ids only has no such users: there it is the DynamicUser range, which such containers do not use.
 * @param uidMap the text of /proc/self/uid_map: lines of `first inside, first outside, how many`
 */
export function firstUid(uidMap: string): number {
  const ranges = uidMap
    .trim()
    .split('\n')
    .map(line => line.trim().split(/\s+/).map(Number));
  const mapped = ranges.some(([inside, , count]) => inside! <= 70_000 && 70_000 + SLOTS <= inside! + count!);
  return mapped || uidMap === '' ? 70_000 : 61_184;
}

const FIRST_UID = firstUid(uidMapOfThisProcess());

function uidMapOfThisProcess(): string {
  try {
    return readFileSync('/proc/self/uid_map', 'utf8');
  } catch {
    return '';
  }
}

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
  await writeFile(draft, JSON.stringify({ directory, owner: ownRecord() }), { mode: 0o600 });
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

/** Where QEMU hands over a machine's memory: a place that the slot's user can reach wherever the state directory is. */
export const memorySocketOf = (slot: Slot): string => path.join(path.dirname(CLAIMS), `${slot.name}.memory`);

/** Where the TPM of a slot's machine lives: a short path, as sockets need it. */
export const tpmDirectoryOf = (slot: Slot): string => path.join(path.dirname(CLAIMS), `${slot.name}.tpm`);

/** Gives a slot back. Everything that carries its name must be gone. */
export async function releaseSlot(slot: Slot): Promise<void> {
  await rm(memorySocketOf(slot), { force: true });
  await rm(tpmDirectoryOf(slot), { recursive: true, force: true });
  await rm(claimPath(slot.number), { force: true });
}

export interface Claim {
  readonly slot: Slot;
  readonly directory: string;
  /** The process that claimed it. */
  readonly owner?: ProcessRecord;
}

/** Every claim of this host. */
export async function claims(): Promise<Claim[]> {
  const names = await readdir(CLAIMS).catch(() => []);
  const found: Claim[] = [];
  for (const name of names.filter(name => /^\d+$/.test(name) && Number(name) < SLOTS)) {
    const claim = parseClaim(await readFile(path.join(CLAIMS, name), 'utf8').catch(() => ''));
    if (claim) found.push({ slot: slotOf(Number(name)), ...claim });
  }
  return found;
}

/** The slots that machines of a run's directory hold or left behind. */
export async function slotsOf(directory: string): Promise<Slot[]> {
  return (await claims()).filter(claim => claim.directory === directory).map(claim => claim.slot);
}

function parseClaim(text: string): Omit<Claim, 'slot'> | undefined {
  try {
    const { directory, owner } = JSON.parse(text) as { directory?: unknown; owner?: unknown };
    const record = parseRecord(JSON.stringify(owner ?? null));
    return typeof directory === 'string' ? { directory, ...(record && { owner: record }) } : undefined;
  } catch {
    return undefined;
  }
}

const claimPath = (number: number): string => path.join(CLAIMS, String(number));
