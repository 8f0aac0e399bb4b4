/**
 * Images that are built on images that are built on images, by turns in containers and in a virtual machine: each generation finds what those before it left, and the
 * last one boots with everything in it, as a machine of its own. Versions, `latest` and `Source` on the way.
 */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cacheDirectory, kiln, leftovers, temporaryHome } from '../kiln.ts';
import { bootGuest } from './guest.ts';

const COMPUTE =
  '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/generations/providers/Microsoft.Compute';
const REGION = 'westeurope';
/** Containers take root. */
const MACHINES = process.getuid?.() === 0 ? ['container', 'vm', 'container'] : ['vm', 'vm', 'vm'];
const env = { KILN_CACHE: cacheDirectory() };

interface Run {
  readonly id: string;
  readonly phases: readonly { kind: string; detail: Record<string, unknown> | null }[];
  readonly outputs: readonly { artifactId: string; path: string; fsverity: string }[];
}

describe('generations', () => {
  let home: Awaited<ReturnType<typeof temporaryHome>>;
  before(async () => {
    home = await temporaryHome();
  });
  after(() => home?.remove());

  const command = (...args: string[]) => kiln(['--home', home.path, ...args], env);
  const definition = (name: string) => `${COMPUTE}/galleries/generations/images/${name}`;

  /** Builds; the step leaves its word in the image, after those of the generations before. */
  async function build(generation: number, name: string, source: object, distributor: object): Promise<Run> {
    const directory = join(home.path, 'templates');
    await mkdir(directory, { recursive: true });
    const path = join(directory, `${name}.json`);
    const template = {
      type: 'Microsoft.VirtualMachineImages/imageTemplates',
      apiVersion: '2025-10-01',
      name,
      location: REGION,
      // The last one is booted by the test itself.
      tags: { 'kiln.bootProof': 'off' },
      properties: {
        buildTimeoutInMinutes: 60,
        vmProfile: { vmSize: 'Standard_D2s_v3' },
        source,
        customize: [
          {
            type: 'Shell',
            name: 'word',
            inline: [
              `echo ${name} | sudo tee -a /opt/generations.txt >/dev/null`,
              'echo "fact words=$(tr "\\n" " " < /opt/generations.txt)"',
              'echo "fact machine-id=$(cat /etc/machine-id)"',
            ],
          },
        ],
        distribute: [{ runOutputName: 'out', ...distributor }],
      },
    };
    await writeFile(path, JSON.stringify(template));
    const outcome = await command('build', path, '--machine', MACHINES[generation]!, '--json');
    assert.equal(outcome.exitCode, 0, `${outcome.stdout}\n${outcome.stderr}`);
    return JSON.parse(outcome.stdout).run;
  }

  async function fact(run: Run, name: string): Promise<string> {
    const { stdout } = await command('logs', run.id, '--json');
    for (const line of stdout.trim().split('\n')) {
      const match = /^fact ([a-z-]+)=(.*)$/.exec(JSON.parse(line).text);
      if (match?.[1] === name) return match[2]!.trim();
    }
    throw new Error(`The run says nothing of ${name}:\n${stdout}`);
  }

  test('three generations, and the last one boots', async () => {
    const version = (galleryImageId: string, more: object = {}) => ({
      type: 'SharedImage',
      galleryImageId,
      targetRegions: [{ name: REGION }],
      ...more,
    });
    const debian = {
      type: 'PlatformImage',
      publisher: 'Debian',
      offer: 'debian-12',
      sku: '12-gen2',
      version: 'latest',
    };
    const first = await build(0, 'first', debian, version(definition('first'), { versioning: { scheme: 'Source' } }));
    const [, number] = /\/versions\/(\d+\.\d+\.\d+)$/.exec(first.outputs[0]!.artifactId) ?? [];
    assert.ok(number, first.outputs[0]!.artifactId);

    const second = await build(
      1,
      'second',
      { type: 'SharedImageVersion', imageVersionId: `${definition('first')}/versions/latest` },
      version(definition('second'), { replicationMode: 'Shallow', versioning: { scheme: 'Source' } }),
    );
    assert.equal(second.phases[0]!.detail?.fsverity, first.outputs[0]!.fsverity);
    assert.equal(await fact(second, 'words'), 'first second');
    // Its version says what it was made of.
    assert.equal(second.outputs[0]!.artifactId, `${definition('second')}/versions/${number}`);

    const third = await build(
      2,
      'third',
      { type: 'SharedImageVersion', imageVersionId: second.outputs[0]!.artifactId },
      { type: 'ManagedImage', imageId: `${COMPUTE}/images/third`, location: REGION },
    );
    assert.equal(third.phases[0]!.detail?.fsverity, second.outputs[0]!.fsverity);
    assert.equal(await fact(third, 'words'), 'first second third');

    const disk = { path: third.outputs[0]!.path, format: 'qcow2' as const };
    const look = join(home.path, 'look');
    await using guest = await bootGuest(disk, look, join(env.KILN_CACHE, 'accelerator.json'));
    assert.equal(await guest.ask('cat /opt/generations.txt'), 'first\nsecond\nthird\n');
    // A container has none: nothing boots in it.
    const booted = [first, second, third].filter((_, generation) => MACHINES[generation] === 'vm');
    const ids = [
      ...(await Promise.all(booted.map(run => fact(run, 'machine-id')))),
      (await guest.ask('cat /etc/machine-id')).trim(),
    ];
    assert.equal(new Set(ids).size, ids.length, `machines that share an id: ${ids.join(', ')}`);
  });

  test('nothing but images, rows and logs is left', async () => {
    assert.deepEqual(await leftovers(home.path), []);
  });
});
