/** Debian 13, made here from its packages: built in a virtual machine and in a container, generalized; one of the images is proven by a boot. The first run makes the source image: minutes. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cacheDirectory, kiln, leftovers, temporaryHome } from '../kiln.ts';
import { openOffline } from './offline-disk.ts';

const GIB = 1024 ** 3;
const DISK_GIB = 5;
const env = { KILN_CACHE: cacheDirectory() };
const root = process.getuid?.() === 0;

const LOOK = [
  '. /etc/os-release; echo "fact release=$VERSION_ID"',
  'echo "fact root-size=$(df -B1 --output=size / | tail -n 1 | tr -d " ")"',
  'echo "fact root=$(sudo -n id -u)"',
  'echo planted | sudo tee /root/.bash_history >/dev/null',
  'echo planted | sudo install -D -m 0600 /dev/stdin /var/lib/dhcpcd/secret',
];

let home: Awaited<ReturnType<typeof temporaryHome>>;
before(async () => {
  home = await temporaryHome();
});
after(async () => home?.remove());

async function build(machine: 'vm' | 'container', proof: boolean) {
  const path = join(home.path, `${machine}.json`);
  const template = {
    ...{ type: 'Microsoft.VirtualMachineImages/imageTemplates', apiVersion: '2024-02-01', name: machine },
    location: 'westeurope',
    tags: proof ? {} : { 'kiln.bootProof': 'off' },
    properties: {
      vmProfile: { osDiskSizeGB: DISK_GIB },
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-13', sku: '13-gen2', version: 'latest' },
      customize: [{ type: 'Shell', name: 'look', inline: LOOK }],
      distribute: [{ type: 'VHD', runOutputName: machine }],
    },
  };
  await writeFile(path, JSON.stringify(template));
  const { exitCode, stdout, stderr } = await kiln(
    ['--home', home.path, '--json', 'build', path, '--machine', machine],
    env,
  );
  assert.equal(exitCode, 0, stderr);
  const { run } = JSON.parse(stdout);
  const log = (await kiln(['--home', home.path, 'logs', run.id], env)).stdout;
  return {
    vhd: run.outputs[0].path as string,
    fact: (name: string) => new RegExp(`fact ${name}=(.*)$`, 'm').exec(log)?.[1],
    log,
    proof,
  };
}

async function check({ vhd, fact, log, proof }: Awaited<ReturnType<typeof build>>): Promise<void> {
  assert.equal(fact('release'), '13');
  assert.equal(fact('root'), '0');
  assert.ok(Number(fact('root-size')) > (DISK_GIB - 0.5) * GIB, fact('root-size'));
  assert.match(log, /Running waagent -force -deprovision\+user\./);
  if (proof) assert.match(log, /The image boots and answers/);
  const disk = await openOffline(vhd);
  assert.equal(await disk.text('/etc/machine-id'), '');
  for (const gone of ['/root/.bash_history', '/var/lib/dhcpcd/secret', '/var/lib/lastlog/lastlog2.db'])
    assert.equal(await disk.text(gone), undefined, gone);
  assert.doesNotMatch((await disk.text('/etc/passwd'))!, /^kiln:/m);
  assert.deepEqual(await leftovers(home.path), []);
}

describe('Debian 13', () => {
  test('built in a virtual machine', async () => check(await build('vm', !root)));
  test('built in a container', { skip: !root && 'mounting disks takes root' }, async () =>
    check(await build('container', true)),
  );
});
