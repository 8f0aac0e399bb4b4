/** What a run leaves where it must leave nothing, wherever it was killed. Found by the run's id: other builds may go on beside it. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openDatabase } from '../../src/database/connection.ts';
import { passOverFile } from '../../src/disks/pass.ts';
import { openHome } from '../../src/home.ts';
import { list } from '../../src/images/store.ts';
import { slotOf, slotsOf } from '../../src/machines/qemu/slot.ts';
import { run } from '../../src/processes/process.ts';

/** A slot's number, as its claim says; to be asked while the machine runs. */
export async function slotNumbers(home: string, runId: string): Promise<number[]> {
  return (await slotsOf(join(home, 'runs', runId))).map(slot => slot.number);
}

/**
 * Everything that is left of a run: processes, mounts, loop devices, directories, staged or unrecorded images, and of the slots that it had
 * (`slots`) the namespace, link and table, unless another machine has the slot by now. `files only` needs no database.
 */
export async function tracesOf(
  home: string,
  runId: string,
  slots: readonly number[] = [],
  rows: 'with rows' | 'files only' = 'with rows',
): Promise<string[]> {
  const directory = join(home, 'runs', runId);
  const found: string[] = [];
  for (const line of await lines('ps', ['-eo', 'pid=,stat=,args=']))
    if (line.includes(runId) && !/^\s*\d+ Z/.test(line)) found.push(`process ${line.trim().slice(0, 200)}`);
  for (const line of await lines('cat', ['/proc/mounts'])) if (line.includes(runId)) found.push(`mount ${line}`);
  for (const line of await lines('losetup', ['--list', '--noheadings']))
    if (line.includes(runId)) found.push(`loop device ${line}`);
  if ((await readdir(join(home, 'runs'))).includes(runId)) found.push(`directory ${directory}`);
  for (const path of await readdir(join(home, 'regions'), { recursive: true }))
    if (path.includes(runId) || /(^|\/)\.(removed|replaced)-/.test(path)) found.push(`image in work ${path}`);
  for (const slot of await slotsOf(directory)) found.push(`slot ${slot.number}`);
  for (const number of slots) found.push(...(await networkOf(number)));
  if (rows === 'with rows') found.push(...(await unrecorded(home, runId)));
  return found;
}

async function networkOf(number: number): Promise<string[]> {
  const { name } = slotOf(number);
  if (await readFile(`/run/kiln/slots/${number}`).catch(() => undefined)) return [];
  const found: string[] = [];
  const is = new RegExp(`(^|[\\s:])${name}([\\s@:]|$)`);
  for (const [program, ...args] of [
    ['ip', 'netns', 'list'],
    ['ip', '-oneline', 'link'],
    ['nft', 'list', 'tables'],
  ] as const)
    for (const line of await lines(program, args))
      if (is.test(line)) found.push(`${program} ${args.join(' ')}: ${line}`);
  return found;
}

export interface Output {
  readonly name: string;
  /** Resource id; an image in several regions is one artifact. */
  readonly artifact: string | null;
  readonly path: string | null;
  readonly fsverity: string | null;
}

/** The outputs that a run has recorded. */
export async function outputsOf(home: string, runId: string): Promise<Output[]> {
  const database = await openDatabase({ home: await openHome({ home }), log: () => {} });
  try {
    return await database.kysely
      .selectFrom('run_output')
      .select(['name', 'artifact_id as artifact', 'path', 'fsverity'])
      .where('run_id', '=', runId)
      .orderBy('name')
      .execute();
  } finally {
    await database.close();
  }
}

/** Images without a row, and rows without an intact image. */
async function unrecorded(home: string, runId: string): Promise<string[]> {
  const outputs = await outputsOf(home, runId);
  const images = (await list(home)).filter(({ manifest }) => manifest.runId === runId);
  const found = images
    .filter(image => !outputs.some(output => output.artifact === image.manifest.id))
    .map(image => `unrecorded image ${image.path}`);
  for (const { name, path, fsverity } of outputs) {
    const image = images.find(one => one.path === path);
    if (!image) found.push(`output ${name} without its image ${path}`);
    else if ((await passOverFile(image.path)).fsverity !== fsverity || image.manifest.fsverity !== fsverity)
      found.push(`damaged image ${path}`);
  }
  return found;
}

async function lines(program: string, args: readonly string[]): Promise<string[]> {
  const { stdout } = await run(program, args, { ok: [0, 1, 255] });
  return stdout.split('\n');
}
