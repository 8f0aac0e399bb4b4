/** A build that is killed while it uploads: the next one takes its image, sends what is missing, and what is there in the end is the disk. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { passOverFile } from '../../src/disks/pass.ts';
import { violations } from '../../src/disks/vhd.ts';
import { bootGuest } from '../boot/guest.ts';
import { cacheDirectory, kiln, leftovers, start, temporaryHome, WITH_LAYERS } from '../kiln.ts';
import { type BlobEndpoint, blobEndpoint, SIGNATURE } from '../wire/blob-endpoint.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { tracesOf } from './traces.ts';

const home = await temporaryHome();
const directory = await temporaryHome();
let guest: QuickGuest;
let endpoint: BlobEndpoint;

before(async () => {
  guest = await makeQuickGuest(directory.path);
  endpoint = await blobEndpoint();
});
after(async () => {
  await endpoint?.close();
  await home.remove();
  await directory.remove();
});

test('an upload goes on where a kill ended it, and the blob boots', async () => {
  const path = await writeTemplate(directory.path, 'sent', { steps: [['echo sent | sudo tee /etc/sent']] });
  const template = JSON.parse(await readFile(path, 'utf8'));
  template.properties.distribute[0].uri = endpoint.uri('sent.vhd');
  await writeFile(path, JSON.stringify(template));
  const env = { KILN_CACHE: guest.cache, ...WITH_LAYERS };
  const args = ['--home', home.path, 'build', path, '--catalogue', guest.catalogue];

  const pages = () => endpoint.blobs.get('sent.vhd')?.pages.size ?? 0;
  const killed = start(args, env);
  const [, first = ''] = await killed.until(/^run ([0-9a-f-]{36})$/m);
  // Some pages come; then it waits until the image is stored, which goes on beside the upload.
  endpoint.trouble = what =>
    what.startsWith('PUT page') && pages() > 0 ? { status: 503, code: 'ServerBusy' } : undefined;
  const stored = async () => (await kiln(['--home', home.path, 'cache', 'list'], env)).stdout.includes('capture');
  while (pages() === 0 || !(await stored())) {
    assert.equal(killed.child.exitCode, null, 'the build ended');
    await sleep(500);
  }
  killed.child.kill('SIGKILL');
  assert.equal((await killed.ended).signal, 'SIGKILL');
  endpoint.trouble = () => undefined;
  const there = pages() * 512;
  assert.ok(there > 0);
  endpoint.seen.length = 0;

  const again = start([...args, '--json'], env);
  const outcome = await again.ended;
  assert.equal(outcome.exitCode, 0, outcome.stderr);
  const { run } = JSON.parse(outcome.stdout);
  assert.deepEqual(await tracesOf(home.path, first), []);
  assert.ok(run.phases.some((phase: { kind: string; cached: boolean }) => phase.kind === 'capture' && phase.cached));
  // All but the probe left the blob that was there.
  assert.equal(endpoint.seen.filter(what => what === 'PUT blob').length, 1);
  assert.match(outcome.stderr, /the upload goes on after \d+ bytes that are there/);
  assert.ok(!outcome.stderr.includes(SIGNATURE) && !outcome.stdout.includes(SIGNATURE));

  const { content } = endpoint.blobs.get('sent.vhd')!;
  assert.deepEqual(violations(content.subarray(-512), content.length), []);
  assert.equal(run.outputs[0].artifactUri, endpoint.uri('sent.vhd').split('?')[0]);
  const fetched = join(home.path, 'fetched.vhd');
  await writeFile(fetched, content);
  assert.equal((await passOverFile(fetched)).fsverity, run.outputs[0].fsverity);
  await using booted = await bootGuest(
    { path: fetched, format: 'vhd' },
    join(home.path, 'look'),
    join(cacheDirectory(), 'accelerator.json'),
  );
  assert.equal((await booted.ask('cat /etc/sent')).trim(), 'sent');
  await booted[Symbol.asyncDispose]();
  assert.equal((await kiln(['--home', home.path, 'runs', 'retry', 'latest'], env)).exitCode, 6);
  assert.deepEqual(await leftovers(home.path), []);
});
