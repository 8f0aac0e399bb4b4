/**
 * Microsoft's tutorial "set up an automatic image build" by the unmodified Azure CLI, from its first line to its last, with a real build in it: az 2.74 of
 * Debian 13 in a root file system of its own, which is told of the server as another machine would be, and the az that is installed here. The VHD that came
 * out is booted.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sha256File } from '../../src/disks/hash.ts';
import { list } from '../../src/images/store.ts';
import { type Finished, run } from '../../src/processes/process.ts';
import { bootGuest } from '../boot/guest.ts';
import { cacheDirectory, ROOT } from '../kiln.ts';
import type { Printed } from './az.ts';
import { debianAz, debianAzMissing, runInside } from './debian-az.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import { type Served, serve } from './served.ts';

const CLIENTS = join(ROOT, 'test/clients');
const EXAMPLE = join(ROOT, 'examples/automatic-build');
/** What the template fetches. */
const SCRIPTS = ['first.sh', 'second.sh', 'index.html'] as const;
/** Where the quickstart's image is retired: the user's own catalogue says what stands for it. */
const CATALOGUE = { 'Canonical:UbuntuServer:18.04-LTS': { alias: 'Debian:debian-12:12-gen2' } };
const REGIONS = ['West US 2', 'East US 2'];

interface Client {
  readonly name: string;
  readonly skip: string | false;
  /** Runs the script in `work`; resolves however it ends. */
  tutorial(served: Served, work: string, env: Readonly<Record<string, string>>): Promise<Finished>;
}

const SCRIPT = ['bash', join(CLIENTS, 'tutorial.sh')];

const clients: readonly Client[] = [
  {
    name: 'az 2.74',
    skip: await debianAzMissing(),
    async tutorial(served, work, env) {
      const az = await debianAz();
      if ('missing' in az) return { exitCode: -1, stdout: '', stderr: az.missing };
      return await runInside(az.root, SCRIPT, {
        shared: [CLIENTS, EXAMPLE, served.home],
        cwd: work,
        env: { ...served.env, ...env, signIn: 'yes' },
      });
    },
  },
  {
    name: 'the az that is installed',
    skip: false,
    tutorial: (served, work, env) =>
      run(SCRIPT[0]!, SCRIPT.slice(1), { cwd: work, env: { ...served.env, ...env }, ok: [0, 1, 2, 3] }),
  },
];

test('docs/tutorial.md has the commands of the script', async () => {
  const script = (await readFile(join(CLIENTS, 'tutorial.sh'), 'utf8')).split('\n').map(line => line.trim());
  const page = await readFile(join(ROOT, 'docs/tutorial.md'), 'utf8');
  const blocks = page.slice(page.indexOf('## What the subscription needs')).match(/^ {4}.*$/gm) ?? [];
  assert.ok(blocks.length > 30);
  for (const command of blocks.map(line => line.trim()))
    assert.ok(
      script.some(line => line.startsWith(command)),
      command,
    );
});

for (const client of clients)
  describe(`the tutorial with ${client.name}`, { skip: client.skip }, () => {
    let served: Served;
    let files: FileServer;
    let work = '';
    let outcome: Finished;
    const shown = async (name: string): Promise<Printed> =>
      JSON.parse(await readFile(join(work, `${name}.json`), 'utf8'));

    before(async () => {
      const texts = await Promise.all(SCRIPTS.map(name => readFile(join(EXAMPLE, name), 'utf8')));
      files = await serveFiles(Object.fromEntries(SCRIPTS.map((name, at) => [name, texts[at]!])));
      served = await serve(['--allow-local-downloads']);
      work = join(served.home, 'work');
      await mkdir(work);
      await writeFile(join(served.home, 'catalogue.json'), JSON.stringify(CATALOGUE));
      outcome = await client.tutorial(served, work, {
        files: EXAMPLE,
        scripts: files.origin,
        checksum: await sha256File(join(EXAMPLE, 'second.sh')),
      });
    });
    after(async () => {
      await files?.close();
      const end = await served?.stop();
      assert.equal(end?.exitCode, 0, end?.stderr);
    });

    test('runs from its first line to its last', t => {
      if (outcome.exitCode === -1) return t.skip(outcome.stderr);
      assert.equal(outcome.exitCode, 0, `${outcome.stdout}\n${outcome.stderr}\n${served.printed()}`);
    });

    test('shows what it made', async t => {
      if (outcome.exitCode === -1) return t.skip(outcome.stderr);
      const template = await shown('template');
      assert.equal(template.provisioningState, 'Succeeded');
      assert.equal(template.source.sku, '18.04-LTS');
      const trigger = await shown('trigger');
      assert.deepEqual([trigger.kind, trigger.provisioningState], ['SourceImage', 'Succeeded']);
      assert.deepEqual([trigger.status.code, trigger.status.message], ['Healthy', 'Trigger is active']);
      const triggers: Printed[] = await shown('triggers');
      assert.deepEqual(
        triggers.map(({ name }) => name),
        ['sourceImageTrigger'],
      );
      const { runState, message } = await shown('last-run');
      assert.deepEqual([runState, message], ['Succeeded', '']);
      const runs: Printed[] = await shown('runs');
      assert.deepEqual(runs.map(({ name }) => name).sort(), ['aibTriggerOutput', 'aibTriggerOutput-vhd']);
      const version = await shown('version');
      assert.equal((await shown('output')).properties.artifactId, version.id);
      assert.deepEqual(
        (await shown('versions')).map(({ id }: Printed) => id),
        [version.id],
      );
      assert.equal(version.provisioningState, 'Succeeded');
      assert.equal(version.tags.source, 'azureVmImageBuilder');
      const regions = version.publishingProfile.targetRegions.map(({ name }: Printed) => name);
      assert.deepEqual(regions, REGIONS);
      assert.equal(version.replicationStatus.aggregatedState, 'Completed');
      assert.deepEqual(
        version.replicationStatus.summary.map(({ region, state }: Printed) => [region, state]),
        REGIONS.map(region => [region, 'Completed']),
      );
      assert.equal(
        (await shown('assignment')).roleDefinitionId ?? (await shown('assignment')).properties.roleDefinitionId,
        (await shown('made-role')).id,
      );
    });

    test('leaves nothing but the files that it downloaded', async t => {
      if (outcome.exitCode === -1) return t.skip(outcome.stderr);
      assert.deepEqual(await shown('templates-left'), []);
      assert.equal(await shown('exists'), false);
      assert.deepEqual(await list(served.home), []);
    });

    test('the VHD boots, and has what the template’s scripts promise', async t => {
      if (outcome.exitCode === -1) return t.skip(outcome.stderr);
      const path = join(work, 'image.vhd');
      assert.equal((await stat(path)).size % (1024 * 1024), 512);
      const directory = join(served.home, 'look');
      await using guest = await bootGuest(
        { path, format: 'vhd' },
        directory,
        join(cacheDirectory(), 'accelerator.json'),
      );
      assert.equal(await guest.ask('cat /etc/first-script'), 'Hello from the first script\n');
      assert.equal(await guest.ask('cat /etc/second-script'), 'kiln\n');
      assert.equal(
        await guest.ask('cat /buildArtifacts/index.html'),
        await readFile(join(EXAMPLE, 'index.html'), 'utf8'),
      );
    });
  });
