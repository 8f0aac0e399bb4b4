/** What this machine offers to builds: the findings that `kiln doctor` shows. */
import { mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import { serverAccount } from '../database/account.ts';
import { findBinaries } from '../database/binaries.ts';
import { type Home, openHome } from '../home.ts';
import { findAccelerator } from '../machines/qemu/accelerator.ts';
import { openNetwork } from '../machines/qemu/network.ts';
import { hostCapacity } from '../machines/sizes.ts';
import { concerns, locate, REQUIREMENTS } from './requirements.ts';
import { bytes } from './terminal.ts';

export interface Finding {
  /** `missing`: builds cannot run. `note`: they can, with the loss that `found` or `hint` names. */
  readonly state: 'ok' | 'note' | 'missing';
  readonly name: string;
  readonly found: string;
  readonly hint?: string;
}

const GIB = 1024 ** 3;
/** A build's overlay, its source image and one VHD of a small Linux, rounded up. */
const ROOM = 10 * GIB;
/** The least that a guest gets beside PostgreSQL and Kiln itself. */
const MEMORY_MIB = 2048;

/** Looks at everything a build needs. `home` as given by `--home`; the state directory is made when it is missing. */
export async function inspectHost(home?: string): Promise<Finding[]> {
  const opened = await openHome({ home }).catch((error: unknown) => {
    if (error instanceof KilnError) return error;
    throw error;
  });
  const looks = [programs(), accelerator(opened), isolation(), postgres(opened), stateDirectory(opened), capacity()];
  return (await Promise.all(looks)).flat();
}

async function programs(): Promise<Finding[]> {
  return REQUIREMENTS.filter(requirement => concerns(requirement, 'build')).map(requirement => {
    const path = locate(requirement.program);
    const name = isAbsolute(requirement.program) ? requirement.package : requirement.program;
    if (path !== undefined) return { state: 'ok', name, found: path };
    return {
      state: requirement.optional ? 'note' : 'missing',
      name,
      found: `not installed; it ${requirement.why} (package ${requirement.package})`,
    };
  });
}

async function accelerator(home: Home | KilnError): Promise<Finding[]> {
  try {
    const cache = home instanceof KilnError ? {} : { cacheFile: join(home.cache, 'accelerator.json') };
    const found = await findAccelerator(cache);
    const qemu: Finding = { state: 'ok', name: 'QEMU', found: found.qemuVersion };
    if (found.name !== 'tcg') return [qemu, { state: 'ok', name: 'accelerator', found: found.name }];
    const hint = `${found.reason ?? ''} Builds work all the same, with the processor emulated in software.`;
    return [
      qemu,
      { state: 'note', name: 'accelerator', found: 'none: guests run 10 to 20 times slower', hint: hint.trim() },
    ];
  } catch (error) {
    if (error instanceof KilnError && error.code === 'ToolMissing') return []; // among the programs already
    throw error;
  }
}

/** Sets up a machine's network as a build does, and takes it down again: nothing less proves that it works here. The host stays as it is. */
async function isolation(): Promise<Finding[]> {
  const name = 'network isolation';
  const directory = await mkdtemp(join(tmpdir(), 'kiln-doctor-'));
  const said: string[] = [];
  try {
    const { network, close } = await openNetwork(directory, line => said.push(line), { tryOnly: true });
    await close();
    if (network.isolated) return [{ state: 'ok', name, found: 'on: guests reach the outside, not this machine' }];
    return [{ state: 'note', name, found: 'off', hint: said.join(' ') }];
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function postgres(home: Home | KilnError): Promise<Finding[]> {
  const name = 'PostgreSQL';
  if (process.env.DATABASE_URL) return [{ state: 'ok', name, found: 'the one that DATABASE_URL names' }];
  if (home instanceof KilnError) return []; // nowhere to run it, which is said already
  try {
    const version = await readFile(join(home.postgres, 'PG_VERSION'), 'utf8').catch(() => undefined);
    const account = version === undefined ? undefined : await serverAccount(home.postgres);
    const { bin, major } = await findBinaries(home.root, account, version === undefined ? undefined : Number(version));
    return [{ state: 'ok', name, found: `${major} (${bin})` }];
  } catch (error) {
    return [blocked(name, error)];
  }
}

async function stateDirectory(home: Home | KilnError): Promise<Finding[]> {
  const name = 'state directory';
  if (home instanceof KilnError) return [blocked(name, home)];
  const free = await statfs(home.root).then(disk => disk.bavail * disk.bsize);
  const found = `${home.root}, ${bytes(free)} free`;
  if (free >= ROOM) return [{ state: 'ok', name, found }];
  return [
    { state: 'note', name, found, hint: `A build may need ${bytes(ROOM)}: free space, or choose another --home.` },
  ];
}

function blocked(name: string, error: unknown): Finding {
  if (!(error instanceof KilnError)) throw error;
  return { state: 'missing', name, found: error.message, ...(error.hint !== undefined && { hint: error.hint }) };
}

async function capacity(): Promise<Finding[]> {
  const { processors, memoryMiB, freeMemoryMiB } = hostCapacity();
  const found = `${processors} processors, ${bytes(memoryMiB * 1024 ** 2)} of memory, ${bytes(freeMemoryMiB * 1024 ** 2)} free`;
  const hint = `A build wants ${bytes(MEMORY_MIB * 1024 ** 2)} free.`;
  return [
    { state: 'ok', name: 'Node', found: `${process.versions.node} (${dirname(process.execPath)})` },
    freeMemoryMiB >= MEMORY_MIB
      ? { state: 'ok', name: 'machine', found }
      : { state: 'note', name: 'machine', found, hint },
  ];
}
