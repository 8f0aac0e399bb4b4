/**
 * Every trace of the table (src/builds/traces.ts) is planted by a step, in a container and in a virtual machine, and looked for on the finished disk while it is off. In one
 * of them the template brings its own script, so that nothing is gone only because of the agent.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { EMPTIED, REMOVED, TOLD, TRACES } from '../../src/builds/traces.ts';
import { cacheDirectory, kiln, leftovers, temporaryHome } from '../kiln.ts';
import { openOffline } from './offline-disk.ts';

/** A comment in every language of files that are read while building: sudoers, sshd_config, crontabs, shell. */
const PLANTED = '# planted';
const OWN_SCRIPT = '/tmp/DeprovisioningScript.sh';
const env = { KILN_CACHE: cacheDirectory() };
const root = process.getuid?.() === 0;

/** A file that a pattern stands for. What lies in /run is on no disk. */
const example = (pattern: string) => `${pattern.replaceAll('*', 'planted')}${pattern.endsWith('/') ? 'file' : ''}`;
const onDisk = (patterns: readonly string[]) => patterns.map(example).filter(path => !path.startsWith('/run/'));
const removed = onDisk(REMOVED);
const kept = onDisk([...TRACES.flatMap(trace => trace.kept ?? []), ...TOLD]);

let home: Awaited<ReturnType<typeof temporaryHome>>;
before(async () => {
  home = await temporaryHome();
});
after(async () => home?.remove());

async function build(machine: 'vm' | 'container', paths: readonly string[]): Promise<{ id: string; vhd: string }> {
  const path = join(home.path, `${machine}.json`);
  const plant = paths.map(at => `sudo install -D -m 0440 /tmp/planted ${at}`);
  const template = {
    ...{ type: 'Microsoft.VirtualMachineImages/imageTemplates', apiVersion: '2024-02-01', name: machine },
    location: 'westeurope',
    tags: { 'kiln.bootProof': 'off' },
    properties: {
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      customize: [{ type: 'Shell', name: 'plant', inline: [`echo '${PLANTED}' > /tmp/planted`, ...plant] }],
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
  return { id: run.id, vhd: run.outputs[0].path };
}

async function check(id: string, vhd: string): Promise<void> {
  const disk = await openOffline(vhd);
  for (const path of removed) assert.equal(await disk.text(path), undefined, path);
  for (const path of kept) assert.equal(await disk.text(path), `${PLANTED}\n`, path);
  // A machine that powers off writes it down once more.
  for (const path of EMPTIED) assert.ok(!(await disk.text(path))!.includes('planted'), path);
  assert.equal(await disk.text('/etc/machine-id'), '');
  assert.doesNotMatch((await disk.text('/etc/passwd'))!, /^kiln:/m);
  const { stdout } = await kiln(['--home', home.path, 'logs', id], env);
  for (const path of TOLD) assert.ok(stdout.includes(`The image keeps ${path}: `), path);
  assert.deepEqual(await leftovers(home.path), []);
}

describe('traces of a build', () => {
  test('are gone from an image made in a container, by its agent and Kiln', {
    skip: !root && 'mounting disks takes root',
  }, async () => {
    const paths = [...removed.filter(path => path !== OWN_SCRIPT), ...EMPTIED, ...kept];
    const { id, vhd } = await build('container', paths);
    const { stdout } = await kiln(['--home', home.path, 'logs', id], env);
    assert.match(stdout, /Running waagent -force -deprovision\+user\./);
    await check(id, vhd);
  });

  test("are gone from an image made in a virtual machine, by the template's own script and Kiln", async () => {
    const { id, vhd } = await build('vm', [...removed, ...EMPTIED, ...kept]);
    const { stdout } = await kiln(['--home', home.path, 'logs', id], env);
    assert.match(stdout, /Running the template's \/tmp\/DeprovisioningScript\.sh\./);
    assert.doesNotMatch(stdout, /Running waagent/);
    await check(id, vhd);
  });
});
