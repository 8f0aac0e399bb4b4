/**
 * Builds in the container machine, on the real source image: what steps see there, what they can and cannot reach, and what is in the image that comes out. One
 * of the images is booted.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cacheDirectory, kiln, leftovers, temporaryHome } from '../kiln.ts';
import { openOffline } from './offline-disk.ts';

const root = process.getuid?.() === 0;
const env = { KILN_CACHE: cacheDirectory() };
const DISK_GIB = 5;

let home: Awaited<ReturnType<typeof temporaryHome>>;

interface Template {
  readonly name: string;
  readonly customize: readonly object[];
  readonly tags?: Readonly<Record<string, string>>;
  readonly vmProfile?: object;
}

async function write({ name, customize, tags = {}, vmProfile }: Template): Promise<string> {
  const path = join(home.path, `${name}.json`);
  const template = {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    apiVersion: '2024-02-01',
    name,
    location: 'westeurope',
    tags: { 'kiln.bootProof': 'off', 'kiln.machine': 'container', ...tags },
    properties: {
      ...(vmProfile && { vmProfile }),
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      customize,
      distribute: [{ type: 'VHD', runOutputName: name }],
    },
  };
  await writeFile(path, JSON.stringify(template));
  return path;
}

const shell = (name: string, ...inline: string[]) => ({ type: 'Shell', name, inline });

const build = (path: string, machine = 'template') =>
  kiln(['--home', home.path, '--json', 'build', path, '--machine', machine], env);

async function facts(runId: string): Promise<Map<string, string>> {
  const { stdout } = await kiln(['--home', home.path, 'logs', runId, '--json'], env);
  const found = new Map<string, string>();
  for (const line of stdout.trim().split('\n')) {
    const match = /^fact ([a-z-]+)=(.*)$/.exec(JSON.parse(line).text);
    if (match) found.set(match[1]!, match[2]!);
  }
  return found;
}

before(async () => {
  home = await temporaryHome();
});

after(async () => home?.remove());

describe('the container machine', { skip: !root && 'mounting disks takes root' }, () => {
  test('builds an image that boots, and its steps see what they see in a virtual machine', async () => {
    const loopback = createServer((_, response) => response.end('the host'));
    await new Promise<void>(resolve => loopback.listen(0, '127.0.0.1', resolve));
    const { port } = loopback.address() as AddressInfo;
    const notes = join(home.path, 'notes.txt');
    await writeFile(notes, 'carried along\n');
    const path = await write({
      name: 'boots',
      tags: { 'kiln.bootProof': 'on' },
      vmProfile: { osDiskSizeGB: DISK_GIB },
      customize: [
        shell(
          'look',
          'echo "fact user=$(id -un):$(id -u)"',
          'echo "fact place=$PWD:$HOME"',
          'echo "fact root=$(sudo -n id -u)"',
          'echo "fact stdin=$(wc -c)"',
          'echo "fact machine-id=$(cat /etc/machine-id)"',
          'echo "fact room=$(df -BG --output=size / | tail -n 1 | tr -dc 0-9)"',
          `if timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/${port}' 2>/dev/null; then echo "fact loopback=open"; else echo "fact loopback=closed"; fi`,
          'if sudo mknod /tmp/disk b 259 0 2>/dev/null; then echo "fact device=made"; else echo "fact device=refused"; fi',
          'echo kept > /tmp/between',
        ),
        { type: 'File', name: 'notes', sourceUri: notes, destination: '/tmp/notes.txt' },
        shell(
          'install',
          'echo "fact between=$(cat /tmp/between)"',
          'sudo install -D -m 0640 /tmp/notes.txt /opt/test/notes.txt',
          'sudo tee /etc/systemd/system/marker.service >/dev/null <<UNIT',
          '[Service]',
          'Type=oneshot',
          'ExecStart=/bin/true',
          '[Install]',
          'WantedBy=multi-user.target',
          'UNIT',
          'sudo systemctl enable marker.service',
          // A boot menu that has no kernel, or that looks for its root on a device of the host's, is seen by the boot proof.
          'sudo update-grub',
          'root=$(findmnt --noheadings --output SOURCE /)',
          'echo "fact menu=$(sudo grep -c "root=UUID=$(sudo blkid -s UUID -o value "$root")" /boot/grub/grub.cfg)"',
          'if sudo dd if=/dev/zero of="$root" count=1 2>/dev/null; then echo "fact disk=written"; else echo "fact disk=kept"; fi',
        ),
      ],
    });
    try {
      const built = await build(path);
      assert.equal(built.exitCode, 0, `${built.stdout}\n${built.stderr}`);
      const { run } = JSON.parse(built.stdout);
      assert.equal(run.machine.kind, 'container');
      assert.ok(
        run.phases.some(
          (phase: { kind: string; state: string }) => phase.kind === 'prove' && phase.state === 'Succeeded',
        ),
      );
      const seen = await facts(run.id);
      assert.equal(seen.get('user'), 'kiln:1000');
      assert.equal(seen.get('place'), '/home/kiln:/home/kiln');
      assert.equal(seen.get('root'), '0');
      assert.equal(seen.get('stdin'), '0');
      assert.match(seen.get('machine-id') ?? '', /^[0-9a-f]{32}$/);
      assert.equal(seen.get('loopback'), 'closed');
      assert.equal(seen.get('device'), 'refused');
      assert.equal(seen.get('between'), 'kept');
      assert.ok(Number(seen.get('menu')) > 0);
      assert.equal(seen.get('disk'), 'kept');
      assert.ok(Number(seen.get('room')) >= DISK_GIB - 1, seen.get('room'));
      const disk = await openOffline(run.outputs[0].path);
      assert.equal(await disk.text('/opt/test/notes.txt'), 'carried along\n');
      assert.equal(await disk.text('/etc/machine-id'), '');
      assert.deepEqual(await disk.names('/home'), []);
      assert.ok((await disk.names('/etc/systemd/system/multi-user.target.wants'))?.includes('marker.service'));
      assert.doesNotMatch((await disk.text('/etc/passwd'))!, /^kiln:/m);
      assert.deepEqual(await leftovers(home.path), []);
    } finally {
      loopback.close();
    }
  });

  test('a step that fails says so, with what it printed, and nothing is left', async () => {
    const path = await write({ name: 'fails', customize: [shell('broken', 'echo the reason >&2', 'exit 7')] });
    const built = await build(path);
    assert.notEqual(built.exitCode, 0);
    const { error } = JSON.parse(built.stdout);
    assert.equal(error.code, 'StepFailed');
    assert.match(error.message, /exit code 7[\s\S]*the reason/);
    assert.deepEqual(await leftovers(home.path), []);
  });

  test('a step that needs a booted machine is told that there is none', async () => {
    const path = await write({ name: 'services', customize: [shell('start', 'sudo systemctl start ssh')] });
    const { error } = JSON.parse((await build(path)).stdout);
    assert.equal(error.code, 'StepFailed');
    assert.match(JSON.stringify(error), /ran in a container[\s\S]*--machine vm/);
  });

  test("the tag alone is refused, at its line: whose kernel the steps run on is not for the template's author to say", async () => {
    const path = await write({ name: 'stranger', customize: [shell('none', 'true')] });
    for (const command of ['build', 'plan']) {
      const refused = await kiln(['--home', home.path, command, path], env);
      assert.notEqual(refused.exitCode, 0);
      assert.match(refused.stderr, /stranger\.json:1:\d+ \(tags\['kiln\.machine'\]\)/);
      assert.match(refused.stderr, /which you have not allowed[\s\S]*--machine container/);
    }
    assert.equal((await kiln(['--home', home.path, 'plan', path, '--machine', 'vm'], env)).exitCode, 0);
  });

  test('--machine wins over the tag; a word that means nothing is refused', async () => {
    const path = await write({ name: 'word', tags: { 'kiln.machine': 'jail' }, customize: [shell('none', 'true')] });
    const refused = await build(path);
    assert.match(refused.stdout + refused.stderr, /kiln\.machine is 'jail'/);
    const built = await build(path, 'container');
    assert.equal(built.exitCode, 0, built.stderr);
    assert.equal(JSON.parse(built.stdout).run.machine.kind, 'container');
  });
});
