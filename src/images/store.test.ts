import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { contentOf, contentOfFile } from '../disks/content.ts';
import { readFooter } from '../disks/vhd.ts';
import { run } from '../processes/process.ts';
import { type ImageManifest, parseManifest } from './manifest.ts';
import {
  exportImage,
  find,
  list,
  publish,
  remove,
  type StoredImage,
  stage,
  supersede,
  sweepStaged,
  unstage,
} from './store.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'kiln-store-'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

const digest = (text: string) => createHash('sha256').update(text).digest('hex');

const GROUP = '/subscriptions/0/resourceGroups/rg/providers/Microsoft.Compute';

function manifest(name: string, change: Partial<ImageManifest> = {}): ImageManifest {
  return {
    ...{ schema: 1, id: `${GROUP}/images/${name}`, kind: 'ManagedImage', name, location: 'westeurope' },
    ...{ format: 'qcow2', file: 'disk.qcow2', virtualSize: 1, allocatedSize: 1, createdAt: '2026-03-01T00:00:00Z' },
    fsverity: `sha256:${digest(name)}`,
    ...{ runId: 'run1', runOutputName: `output-${name}`, templateId: '/t', tags: {} },
    source: { name: 'Debian:debian-12:12-gen2:0.1.0', sha256: 'a'.repeat(64), exactVersion: '0.1.0' },
    ...{ osType: 'Linux', hyperVGeneration: 'V2', firmware: 'bios' },
    ...change,
  };
}

async function put(name: string, content = name, change: Partial<ImageManifest> = {}): Promise<StoredImage> {
  const given = manifest(name, change);
  const staged = await stage(home, given.location, 'run1');
  await writeFile(join(staged.directory, given.file), content);
  return publish(home, staged, given);
}

test('what was published is listed, with its manifest and disk', async () => {
  assert.deepEqual(await list(home), []);
  const image = await put('one');
  await put('two', 'two', { location: 'eastus' });
  assert.deepEqual(
    (await list(home)).map(({ manifest }) => manifest.name),
    ['two', 'one'],
  );
  assert.deepEqual(await list(home, { location: 'westeurope' }), [image]);
  assert.equal(await readFile(image.path, 'utf8'), 'one');
  assert.deepEqual(await readdir(join(home, 'regions/westeurope/.staged')), []);
});

test('an image of the same id replaces the old one, in any case', async () => {
  await put('Base', 'old');
  const image = await put('base', 'new', { id: `${GROUP.toUpperCase()}/images/BASE` });
  assert.deepEqual(await list(home), [image]);
  assert.equal(await readFile(image.path, 'utf8'), 'new');
  assert.equal((await readdir(dirname(image.directory))).length, 1);
});

test('two that publish one image at once: one of them stays', async () => {
  await Promise.all(['a', 'b', 'c'].map(content => put('same', content)));
  const all = await list(home);
  assert.equal(all.length, 1);
  assert.match(await readFile(all[0]!.path, 'utf8'), /^[abc]$/);
});

test('an image that cannot be published is not there', async () => {
  const staged = await stage(home, 'westeurope', 'run1');
  await assert.rejects(publish(home, staged, manifest('nodisk')), { code: 'ENOENT' });
  await writeFile(join(staged.directory, 'disk.qcow2'), 'x');
  await assert.rejects(publish(home, staged, manifest('bad', { fsverity: 'no' })), /not valid/);
  await assert.rejects(publish(home, staged, manifest('other', { location: 'eastus' })), /was staged in westeurope/);
  assert.deepEqual(await list(home), []);
  await unstage(staged);
  await assert.rejects(stage(home, '../x', 'run1'), /not fit/);
});

test('people find images by id, name, output and the beginning of these', async () => {
  const one = await put('web-server');
  const two = await put('web-client');
  for (const text of [
    one.manifest.id.toUpperCase(),
    'web-server',
    'WEB-S',
    'output-web-server',
    one.manifest.fsverity!.slice(0, 20),
    one.manifest.fsverity!.slice('sha256:'.length, 20),
  ])
    assert.deepEqual(await find(home, text), one);
  const web = await put('web');
  assert.deepEqual(await find(home, 'web'), web, 'a whole name wins over beginnings');
  await assert.rejects(find(home, 'we'), { code: 'NotFound', message: '3 images are called we.', hint: /web-client/ });
  await assert.rejects(find(home, 'nothing'), { code: 'NotFound', message: 'No image is called nothing.' });
  await assert.rejects(find(home, ''), { code: 'NotFound' });
  await remove(two);
  await remove(two);
  await assert.rejects(find(home, 'web-client'), { code: 'NotFound' });
});

test('what dead processes left is swept; a replaced image without successor comes back', async () => {
  const image = await put('kept');
  const dead = await stage(home, 'westeurope', 'dead-run');
  const alive = await stage(home, 'eastus', 'alive-run');
  await writeFile(join(dead.directory, 'disk.qcow2'), 'half');
  const parent = dirname(image.directory);
  const name = image.directory.slice(parent.length + 1);
  await rename(image.directory, join(parent, `.replaced-${name}+12345678`));
  await mkdir(join(parent, '.removed-12345678'));
  assert.deepEqual(await list(home), []);
  await sweepStaged(home, owner => owner === 'alive-run');
  assert.deepEqual(await list(home), [image]);
  assert.deepEqual(await readdir(parent), [name]);
  assert.deepEqual(await readdir(join(home, 'regions/westeurope/.staged')), []);
  assert.equal((await readdir(join(home, 'regions/eastus/.staged'))).length, 1);
  await unstage(alive);
  await mkdir(join(parent, `.replaced-${name}+abcdefgh`));
  await sweepStaged(home, () => false);
  assert.deepEqual(await list(home), [image]);
  assert.deepEqual(await readdir(parent), [name]);
});

test('a directory without a valid manifest or without its disk is no image', async () => {
  const image = await put('broken');
  await writeFile(join(image.directory, 'manifest.json'), '{"schema": 1}');
  assert.deepEqual(await list(home), []);
  const other = await put('headless');
  await rm(other.path);
  assert.deepEqual(await list(home), []);
});

test('an image of an older Kiln is known by the SHA-256 of its file, one without any digest is none', async () => {
  const { fsverity: _, ...bare } = manifest('old');
  const old = { ...bare, sha256: digest('old') };
  const staged = await stage(home, old.location, 'run1');
  await writeFile(join(staged.directory, old.file), 'old');
  const image = await publish(home, staged, old);
  assert.deepEqual(image.manifest, old);
  assert.deepEqual(await find(home, digest('old').slice(0, 12)), image);
  assert.deepEqual(await contentOfFile(image.path, contentOf(old)), contentOf(image.manifest));
  assert.equal(parseManifest(JSON.stringify(bare)), undefined);
});

test('a manifest is read back as it was, and nothing else is', () => {
  const given = manifest('x', { tags: { a: 'b' } });
  assert.deepEqual(parseManifest(JSON.stringify(given)), given);
  for (const change of [
    { schema: 2 },
    { file: '../../etc/shadow' },
    { location: '../x' },
    { virtualSize: -1 },
    { source: null },
  ])
    assert.equal(parseManifest(JSON.stringify({ ...given, ...change })), undefined);
  fc.assert(fc.property(fc.json(), text => assert.equal(parseManifest(text), undefined)));
});

test('a disk is exported as what people want', async () => {
  const staged = await stage(home, 'westeurope', 'run1');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(staged.directory, 'disk.qcow2'), '3000k']);
  const image = await publish(home, staged, manifest('disk'));
  for (const format of ['qcow2', 'raw', 'vhd'] as const) {
    const to = join(home, `out.${format}`);
    await exportImage(image, { format, to });
    await run('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', format === 'vhd' ? 'vpc' : format, image.path, to]);
  }
  assert.deepEqual((await readFooter(join(home, 'out.vhd'))).violations, []);
  await assert.rejects(exportImage(image, { format: 'vhd', to: join(home, 'missing/out.vhd') }));
});

test('an image that nobody built names the operation that made it; one that names neither is none', async () => {
  const { runId: _run, templateId: _template, runOutputName: _output, ...rest } = manifest('imported');
  const imported = { ...rest, operationId: 'operation1', source: { name: 'https://a.blob.localhost/vhds/a.vhd' } };
  assert.deepEqual(parseManifest(JSON.stringify(imported)), imported);
  assert.equal(parseManifest(JSON.stringify(rest)), undefined);
  const staged = await stage(home, imported.location, 'operation1');
  await writeFile(join(staged.directory, imported.file), 'imported');
  const image = await publish(home, staged, imported);
  // Built earlier, in its place: it goes when the new one is recorded.
  await put('imported', 'built');
  assert.equal((await list(home)).length, 2);
  await supersede(home, image);
  assert.deepEqual(await list(home), [image]);
});
