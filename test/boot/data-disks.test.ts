/**
 * Data disks in real guests: a template partitions, formats and mounts two; they are frozen with the machine, captured, proven, validated and published; a second
 * image is built on the first, with a disk more.
 */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, leftovers, temporaryHome, WITH_LAYERS } from '../kiln.ts';

const GROUP = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/data-test';
const COMPUTE = `${GROUP}/providers/Microsoft.Compute`;
const IMAGE = `${COMPUTE}/images/with-data`;
const DEFINITION = `${COMPUTE}/galleries/data/images/with-data`;
const SECOND = `${COMPUTE}/images/with-more`;

/** One disk has a partition and a place in fstab, the other is a file system as a whole. Named as on Azure. */
const FORMAT = [
  'set -e',
  'disk=/dev/disk/azure/scsi1',
  'echo "fact sizes=$(sudo blockdev --getsize64 $disk/lun0) $(sudo blockdev --getsize64 $disk/lun1)"',
  "echo ',,L' | sudo sfdisk --quiet --label gpt $disk/lun0",
  'sudo udevadm settle',
  'sudo mkfs.ext4 -q -L first $disk/lun0-part1',
  'sudo mkfs.ext4 -q -L second $disk/lun1',
  'sudo mkdir -p /data /more',
  'echo "UUID=$(sudo blkid -s UUID -o value $disk/lun0-part1) /data ext4 defaults 0 2" | sudo tee -a /etc/fstab',
  'sudo mount /data',
  'echo kept | sudo tee /data/file',
];
const FILL = ['sudo mount /dev/disk/azure/scsi1/lun1 /more', 'echo second | sudo tee /more/file', 'sudo umount /more'];
const CHECK = [
  'test "$(cat /data/file)" = kept',
  'sudo mount -o ro /dev/disk/azure/scsi1/lun1 /more',
  'test "$(cat /more/file)" = second',
];

let home: Awaited<ReturnType<typeof temporaryHome>>;
let env: NodeJS.ProcessEnv;

const command = (...args: string[]) => kiln(['--home', home.path, ...args], env);

async function answer(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await command(...args);
  assert.equal(exitCode, 0, `${stdout}\n${stderr}`);
  return stdout;
}

async function write(name: string, properties: object, tags: object = {}): Promise<string> {
  const path = join(home.path, `${name}.json`);
  const resource = {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    ...{ apiVersion: '2025-10-01', name, location: 'westeurope', tags, properties },
  };
  await writeFile(path, JSON.stringify(resource));
  return path;
}

const shell = (name: string, ...inline: string[]) => ({ type: 'Shell', name, inline });

const first = (...last: string[]) =>
  write('with-data', {
    source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
    additionalDataDisks: [{ sizeGB: 1 }, { sizeGB: 2 }],
    customize: [shell('format', ...FORMAT), shell('fill', ...last)],
    validate: { inVMValidations: [shell('check', ...CHECK)] },
    distribute: [
      { type: 'ManagedImage', runOutputName: 'image', imageId: IMAGE, location: 'westeurope' },
      { type: 'SharedImage', runOutputName: 'version', galleryImageId: `${DEFINITION}/versions/1.0.0` },
    ],
  });

const facts = async () => (await answer('logs')).match(/fact sizes=\d+ \d+/)?.[0];

describe('data disks', { concurrency: 1 }, () => {
  before(async () => {
    home = await temporaryHome();
    const cache = join(home.path, 'cache');
    await mkdir(cache);
    await run('cp', ['--archive', '--link', join(cacheDirectory(), 'sources'), cache]);
    env = { KILN_CACHE: cache, ...WITH_LAYERS };
  });
  after(async () => home?.remove());

  test('a build that fails behind them goes on with what was on them', async () => {
    const failed = await command('build', await first('test -e /data/file', 'exit 3'), '--machine', 'vm');
    assert.notEqual(failed.exitCode, 0, 'the last step ends with 3');
    assert.match((await facts()) ?? '', /sizes=1073741824 2147483648$/);
    const built = JSON.parse(await answer('build', await first(...FILL), '--machine', 'vm', '--json')).run;
    const cached = built.phases.filter(({ cached }: { cached: boolean }) => cached).length;
    assert.ok(cached >= 3, 'source, boot and format are taken');
  });

  test('the image has them as disks of its own, which are exported one by one', async () => {
    const all = JSON.parse(await answer('images', 'list', '--json')) as { id: string; virtualSize: number }[];
    const below = (id: string) =>
      all
        .filter(one => one.id.startsWith(`${id}/dataDisks/`))
        .map(({ id, virtualSize }) => [id.slice(-1), virtualSize]);
    for (const id of [IMAGE, `${DEFINITION}/versions/1.0.0`])
      assert.deepEqual(below(id).sort(), [
        ['0', 1024 ** 3],
        ['1', 2 * 1024 ** 3],
      ]);
    const raw = join(home.path, 'second.raw');
    await answer('images', 'export', IMAGE, '--disk', '1', '--format', 'raw', '--output', raw);
    assert.equal((await run('debugfs', ['-R', 'cat /file', raw])).stdout.trim(), 'second');
    const missing = await command('images', 'export', IMAGE, '--disk', '9');
    assert.match(missing.stderr, /no data disk at LUN 9/);
  });

  test('an image that is built on it carries them along, and gets the next unit for one more', async () => {
    const properties = {
      source: { type: 'ManagedImage', imageId: IMAGE },
      additionalDataDisks: [{ sizeGB: 3 }],
      customize: [
        shell('look', ...CHECK, 'sudo umount /more', 'echo grown | sudo tee -a /data/file'),
        shell('third', 'sudo mkfs.ext4 -q -L third /dev/disk/azure/scsi1/lun2'),
      ],
      distribute: [{ type: 'ManagedImage', runOutputName: 'more', imageId: SECOND, location: 'westeurope' }],
    };
    // That images with data disks boot, the first one has shown.
    const path = await write('with-more', properties, { 'kiln.bootProof': 'off' });
    await answer('build', path, '--machine', 'vm');
    for (const [image, text] of [
      [SECOND, 'kept\ngrown'],
      [IMAGE, 'kept'],
    ] as const) {
      const raw = join(home.path, 'first.raw');
      await answer('images', 'export', image, '--disk', '0', '--format', 'raw', '--output', raw);
      const { partitiontable } = JSON.parse((await run('sfdisk', ['--json', raw])).stdout);
      const at = `${raw}?offset=${partitiontable.partitions[0].start * 512}`;
      assert.equal((await run('debugfs', ['-R', 'cat /file', at])).stdout.trim(), text);
    }
    const raw = join(home.path, 'third.raw');
    await answer('images', 'export', SECOND, '--disk', '2', '--format', 'raw', '--output', raw);
    assert.equal((await run('blkid', ['--probe', '-s', 'LABEL', '-o', 'value', raw])).stdout.trim(), 'third');
  });

  test('a container machine refuses them, and says why', async () => {
    const { exitCode, stderr } = await command('build', await first(...FILL), '--machine', 'container');
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /container machine cannot have data disks/);
    assert.deepEqual(await leftovers(home.path), []);
  });
});
