/** az 2.74 of Debian 13 on what is around image templates, where the older az of Debian 12 ends by itself. No builds. */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { ROOT } from '../kiln.ts';
import type { Printed } from './az.ts';
import { debianAz, debianAzMissing, runInside } from './debian-az.ts';
import { type Served, serve } from './served.ts';

const CLIENTS = join(ROOT, 'test/clients');
let served: Served;
before(async () => {
  served = await serve(['--workers', '0']);
});
after(async () => {
  const end = await served?.stop();
  assert.equal(end?.exitCode, 0, end?.stderr);
});

test('roles, the marketplace, blobs, images and templates by pieces', { skip: await debianAzMissing() }, async t => {
  const az = await debianAz();
  if ('missing' in az) return t.skip(az.missing);
  const work = join(served.home, 'work');
  await mkdir(work);
  const raw = join(work, 'disk.raw');
  await run('truncate', ['--size', '8M', raw]);
  const fixed = ['convert', '-f', 'raw', '-O', 'vpc', '-o', 'subformat=fixed,force_size=on'];
  await run('qemu-img', [...fixed, raw, join(work, 'disk.vhd')]);
  const outcome = await runInside(az.root, ['bash', join(CLIENTS, 'debian-az.sh')], {
    shared: [CLIENTS, served.home],
    cwd: work,
    env: served.env,
  });
  assert.equal(outcome.exitCode, 0, `${outcome.stdout}\n${outcome.stderr}\n${served.printed()}`);
  const shown = async (name: string): Promise<Printed> =>
    JSON.parse(await readFile(join(work, `${name}.json`), 'utf8'));

  assert.deepEqual((await shown('roles')).sort(), ['Contributor', 'Storage Blob Data Reader']);
  const images: Printed[] = await shown('images');
  assert.ok(images.length > 0 && images.every(({ sku }) => sku === '12-gen2'));
  assert.equal((await shown('image')).hyperVGeneration, 'V2');
  const version = await shown('version');
  assert.equal(version.provisioningState, 'Succeeded');
  assert.deepEqual(
    version.publishingProfile.targetRegions.map((one: Printed) => [one.name, one.regionalReplicaCount]),
    [
      ['West US 2', 1],
      ['East US', 2],
    ],
  );
  assert.equal(version.replicationStatus.aggregatedState, 'Completed');
  const template = await shown('template');
  assert.equal(template.provisioningState, 'Succeeded');
  assert.deepEqual(
    template.customize.map((one: Printed) => [one.type, one.name, one.inline]),
    [['Shell', 'hello', ['echo hello']]],
  );
  assert.deepEqual(template.distribute[0].versioning, { scheme: 'Latest', major: 1 });
  assert.equal(template.validate.continueDistributeOnFailure, true);
  assert.deepEqual(
    [template.errorHandling.onCustomizerError, template.errorHandling.onValidationError],
    ['abort', 'cleanup'],
  );
  assert.equal((await shown('subnet')).privateLinkServiceNetworkPolicies, 'Disabled');
  assert.equal(await shown('exists'), false);
});
