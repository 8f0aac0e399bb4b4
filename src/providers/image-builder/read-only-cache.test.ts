/** Builds whose KILN_CACHE can only be read: from the sources that are in it, without layers, and said so. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { emptyCatalogue, guestlessMachines } from '../../../test/wire/machines.ts';
import { LOCAL_SUBSCRIPTION, resourceId } from '../../arm/ids.ts';
import { run } from '../../processes/process.ts';
import { openService } from '../../service.ts';
import { ensureNeighbours } from '../ensure.ts';
import { putTemplate } from './create.ts';
import { imageTemplates } from './image-templates.ts';
import { normaliseTemplate } from './normalise.ts';
import { startRun } from './run.ts';
import { sourceOf } from './source-image.ts';
import { validateTemplate } from './validate.ts';

delete process.env.DATABASE_URL;

const apiVersion = '2024-02-01';
const id = resourceId(LOCAL_SUBSCRIPTION, 'runs', imageTemplates.type, 'one');
const source = { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' };
const body = { location: 'eastus', properties: { source, distribute: [{ type: 'VHD', runOutputName: 'vhd' }] } };

/** @returns how the run ended, and what Kiln said in it */
async function build(home: string): Promise<{ readonly status: string; readonly said: string }> {
  const service = await openService({ home, log: () => undefined, machines: guestlessMachines() });
  try {
    const { engine, machines } = service;
    const database = service.database.kysely;
    const checked = validateTemplate(body, { apiVersion, localFiles: true, identityOptional: true });
    const template = normaliseTemplate(checked.template, apiVersion);
    const guest = await sourceOf(template, { database, home: service.home });
    await ensureNeighbours(database, { templateId: id, template, guest, strict: false });
    const { operation } = await putTemplate(engine, database, {
      id,
      body,
      apiVersion,
      local: true,
      where: 'here',
      home: service.home,
    });
    assert.equal((await engine.wait(operation)).status, 'Succeeded');
    const runId = await startRun(engine, database, id, { where: 'here', machines });
    const { status } = await engine.wait(runId);
    const lines = await database.selectFrom('log_line').select('text').where('run_id', '=', runId).execute();
    return { status, said: lines.map(({ text }) => text).join('\n') };
  } finally {
    await service.close();
  }
}

test('a cache that can only be read', { skip: process.getuid?.() !== 0 && 'needs root to mount' }, async t => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-read-only-'));
  await chmod(root, 0o711);
  const [home, cache] = [join(root, 'home'), join(root, 'cache')];
  process.env.KILN_CACHE = cache;
  t.after(async () => {
    delete process.env.KILN_CACHE;
    await run('umount', [cache], { ok: [0, 32] });
    await rm(root, { recursive: true, force: true });
  });
  await run('mkdir', ['-p', home, '--mode=711']);
  await emptyCatalogue(home, { 'My:linux:1': '1.2.3' });
  const first = await build(home);
  assert.equal(first.status, 'Succeeded', first.said);
  await run('mount', ['--bind', cache, cache]);
  await run('mount', ['-o', 'remount,bind,ro', cache]);
  const second = await build(home);
  assert.equal(second.status, 'Succeeded', second.said);
  assert.match(second.said, /^Nothing is kept or taken between builds: .*layers can only be read\.$/m);
  assert.doesNotMatch(second.said, /CACHED/);
  const kiln = (...args: string[]) =>
    run(process.execPath, [join(import.meta.dirname, '../../cli/main.ts'), '--home', home, ...args]);
  // The first build's layers and source are there to be seen.
  const { layers, sources } = JSON.parse((await kiln('--json', 'cache', 'list')).stdout);
  assert.ok(layers.length > 0);
  assert.deepEqual(
    sources.map(({ name }: { name: string }) => name),
    ['My:linux:1:1.2.3'],
  );
});
