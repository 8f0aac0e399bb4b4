/**
 * Ubuntu 24.04, made here from its packages: built in a virtual machine and in a container, generalized by its own agent; the image is proven by a boot. The first run makes the
 * source image: minutes. Skipped where no mirror of Ubuntu answers.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { KilnError } from '../../src/arm/errors.ts';
import { acquirePlatformImage } from '../../src/images/catalogue/acquire.ts';
import { readUserEntries } from '../../src/images/catalogue/user-entries.ts';
import { cacheDirectory, kiln, leftovers, temporaryHome } from '../kiln.ts';
import { openOffline } from './offline-disk.ts';

const NAME = { publisher: 'Canonical', offer: 'ubuntu-packages', sku: 'noble', version: 'latest' };
const UNREACHABLE = /Could not (resolve|connect)|Unable to connect|Connection (timed out|refused)|Failed to fetch/i;
const env = { KILN_CACHE: cacheDirectory() };
const root = process.getuid?.() === 0;

const LOOK = [
  '. /etc/os-release; echo "fact release=$ID $VERSION_ID"',
  'echo "fact root=$(sudo -n id -u)"',
  'sudo apt-get update >/dev/null && apt-cache policy hello | grep -q Candidate && echo "fact packages=there"',
  'echo planted | sudo tee /root/.bash_history >/dev/null',
];

let home: Awaited<ReturnType<typeof temporaryHome>>;
let missing: string | undefined;
before(async () => {
  home = await temporaryHome();
  const catalogue = join(home.path, 'catalogue.json');
  await writeFile(catalogue, JSON.stringify({ 'Canonical:ubuntu-packages:noble': { bootstrap: 'ubuntu:noble' } }));
  const options = { cacheDirectory: join(cacheDirectory(), 'sources'), userEntries: await readUserEntries(catalogue) };
  try {
    await acquirePlatformImage(NAME, options);
  } catch (error) {
    if (!(error instanceof KilnError) || !UNREACHABLE.test(error.message)) throw error;
    missing = 'no mirror of Ubuntu answers';
  }
});
after(async () => {
  await home?.remove();
});

async function build(machine: 'vm' | 'container', proof: boolean): Promise<void> {
  const path = join(home.path, `${machine}.json`);
  const template = {
    ...{ type: 'Microsoft.VirtualMachineImages/imageTemplates', apiVersion: '2024-02-01', name: machine },
    location: 'westeurope',
    tags: proof ? {} : { 'kiln.bootProof': 'off' },
    properties: {
      source: { type: 'PlatformImage', ...NAME },
      customize: [{ type: 'Shell', name: 'look', inline: LOOK }],
      distribute: [{ type: 'VHD', runOutputName: machine }],
    },
  };
  await writeFile(path, JSON.stringify(template));
  const command = ['--home', home.path, '--json', 'build', path, '--machine', machine];
  const { exitCode, stdout, stderr } = await kiln(command, env);
  assert.equal(exitCode, 0, stderr);
  const { run } = JSON.parse(stdout);
  const log = (await kiln(['--home', home.path, 'logs', run.id], env)).stdout;
  const fact = (name: string) => new RegExp(`fact ${name}=(.*)$`, 'm').exec(log)?.[1];
  assert.equal(fact('release'), 'ubuntu 24.04');
  assert.equal(fact('root'), '0');
  assert.equal(fact('packages'), 'there');
  assert.match(log, /Running waagent -force -deprovision\+user\./);
  if (proof) assert.match(log, /The image boots and answers/);
  const disk = await openOffline(run.outputs[0].path);
  assert.equal(await disk.text('/etc/machine-id'), '');
  assert.equal(await disk.text('/root/.bash_history'), undefined);
  assert.doesNotMatch((await disk.text('/etc/passwd'))!, /^kiln:/m);
  assert.deepEqual(await leftovers(home.path), []);
}

describe('Ubuntu', { concurrency: 1 }, () => {
  test('built in a virtual machine', async t => (missing ? t.skip(missing) : build('vm', !root)));
  test('built in a container', { skip: !root && 'mounting disks takes root' }, async t =>
    missing ? t.skip(missing) : build('container', true),
  );
});
