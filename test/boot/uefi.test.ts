/** An image of generation 2 whose source boots by UEFI: built in a container, then built on, and proven, in machines that boot by UEFI; known as such. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { acquirePlatformImage } from '../../src/images/catalogue/acquire.ts';
import { findFirmware } from '../../src/machines/qemu/model.ts';
import { cacheDirectory, kiln, leftovers, temporaryHome } from '../kiln.ts';

const noFirmware = await findFirmware().then(
  () => false,
  () => 'OVMF is not installed',
);
/** Containers take root. */
const root = process.getuid?.() === 0;
const GROUP = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/boot-test';
const IMAGE = `${GROUP}/providers/Microsoft.Compute/images/uefi`;

describe('UEFI', { skip: noFirmware, concurrency: 1 }, () => {
  let home: Awaited<ReturnType<typeof temporaryHome>>;
  let env: NodeJS.ProcessEnv;
  before(async () => {
    home = await temporaryHome();
    env = { KILN_CACHE: join(home.path, 'cache') };
    const { disk } = await acquirePlatformImage(
      { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      { cacheDirectory: join(cacheDirectory(), 'sources') },
    );
    const entry = { file: disk.path, hyperVGeneration: 'V2', firmware: 'uefi' };
    await writeFile(join(home.path, 'catalogue.json'), JSON.stringify({ 'Boot:uefi:gen2': entry }));
  });
  after(async () => home?.remove());

  async function build(name: string, machine: 'vm' | 'container', source: object, step: string) {
    const path = join(home.path, `${name}.json`);
    const template = {
      ...{ type: 'Microsoft.VirtualMachineImages/imageTemplates', apiVersion: '2024-02-01', name },
      location: 'westeurope',
      tags: machine === 'vm' ? {} : { 'kiln.bootProof': 'off' },
      properties: {
        source,
        customize: [{ type: 'Shell', inline: ['[ ! -d /sys/firmware/efi ] || echo "fact firmware=uefi"', step] }],
        distribute: [
          {
            type: 'ManagedImage',
            runOutputName: name,
            imageId: name === 'first' ? IMAGE : `${IMAGE}-2`,
            location: 'westeurope',
          },
        ],
      },
    };
    await writeFile(path, JSON.stringify(template));
    const command = ['--home', home.path, '--json', 'build', path, '--machine', machine];
    const { exitCode, stdout, stderr } = await kiln(command, env);
    assert.equal(exitCode, 0, stderr);
    const { run } = JSON.parse(stdout);
    const log = (await kiln(['--home', home.path, 'logs', run.id], env)).stdout;
    if (machine === 'vm')
      for (const said of [/fact firmware=uefi/, /The image boots and answers/]) assert.match(log, said);
    const manifest = JSON.parse(await readFile(join(run.outputs[0].path, '../manifest.json'), 'utf8'));
    assert.deepEqual([manifest.firmware, manifest.hyperVGeneration], ['uefi', 'V2']);
  }

  test('a source of the catalogue', async () => {
    const source = { type: 'PlatformImage', publisher: 'Boot', offer: 'uefi', sku: 'gen2', version: 'latest' };
    await build('first', root ? 'container' : 'vm', source, 'echo first | sudo tee /etc/first >/dev/null');
    assert.deepEqual(await leftovers(home.path), []);
  });

  test('and the image that was made of it, which boots there', async () => {
    await build('second', 'vm', { type: 'ManagedImage', imageId: IMAGE }, 'test "$(cat /etc/first)" = first');
    assert.deepEqual(await leftovers(home.path), []);
  });
});
