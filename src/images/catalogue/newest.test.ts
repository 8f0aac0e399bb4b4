import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { CatalogueEntry, Origin } from './entries.ts';
import { isNewer, newestPlatformImage, newestVersion } from './newest.ts';
import { cacheFolder } from './source-cache.ts';

let root: string;
let cache: string;
let server: Server;
let list: string | undefined;
/** Of the list, where the server tells one. */
let etag: string | undefined;
const asked: string[] = [];

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-newest-'));
  cache = join(root, 'cache');
  server = createServer((request, response) => {
    asked.push(request.method!);
    if (list === undefined) return void response.writeHead(404).end();
    const headers = { 'last-modified': 'Sun, 01 Mar 2026 10:00:00 GMT', ...(etag !== undefined && { etag }) };
    response.writeHead(200, headers).end(list);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(root, { recursive: true, force: true });
});

const entry = (sku: string, origin: Origin): CatalogueEntry => ({
  ...{ publisher: 'Contoso', offer: 'linux', sku, osType: 'Linux', architecture: 'x64', hyperVGeneration: 'V2' },
  ...{ firmware: 'bios', provisioning: 'cloud-init', origin },
});

/** As makeOnce leaves a version. */
async function cached(of: CatalogueEntry, version: string, from: string): Promise<void> {
  const folder = join(cacheFolder(cache, of), version);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'disk.qcow2'), 'x');
  const { publisher, offer, sku } = of;
  const manifest = { schema: 1, publisher, offer, sku, version, sha256: 'a'.repeat(64), fileSize: 1, virtualSize: 1 };
  await writeFile(join(folder, 'manifest.json'), JSON.stringify({ ...manifest, madeAt: '2026-03-01T00:00:00Z', from }));
}

const DIGEST = (text: string) => createHash('sha256').update(text).digest('hex');

test('a bootstrapped image is as new as the newest that was made', async () => {
  const debian = entry('made', { kind: 'bootstrap', distribution: 'debian', release: 'bookworm' });
  const sibling = entry('made-gen1', { kind: 'sibling', sku: 'made' });
  const newest = () =>
    newestPlatformImage(
      { publisher: 'contoso', offer: 'LINUX', sku: 'made-gen1', version: 'latest' },
      { cacheDirectory: cache, userEntries: { entries: [debian, sibling], aliases: [] } },
    );
  assert.equal(await newest(), undefined);
  await cached(debian, '0.20260301.9', 'bootstrap debian bookworm');
  await cached(debian, '0.20260301.10', 'bootstrap debian bookworm');
  assert.deepEqual(await newest(), { name: 'Contoso:linux:made', version: '0.20260301.10' });
});

test('a file or URL of one’s own has its version, or else its content', async () => {
  const path = join(root, 'disk.raw');
  await writeFile(path, 'one');
  const file = (more: object = {}) => newestVersion(entry('file', { kind: 'file', path, ...more }), cache);
  assert.equal(await file({ version: '1.2.3' }), '1.2.3');
  assert.equal(await file({ sha256: DIGEST('one') }), `sha256-${DIGEST('one')}`);
  const one = await file();
  assert.equal(await file(), one);
  await writeFile(path, 'another');
  assert.notEqual(await file(), one);
  const url = (more: object = {}) =>
    newestVersion(entry('url', { kind: 'url', url: 'http://localhost/x', sha256: DIGEST('u'), ...more }), cache);
  assert.equal(await url(), `sha256-${DIGEST('u')}`);
  assert.equal(await url({ version: '2.0.0' }), '2.0.0');
  const nowhere = newestVersion(entry('none', { kind: 'file', path: join(root, 'missing') }), cache);
  await assert.rejects(nowhere, { code: 'SourceUnusable' });
});

test('a published image is what the publisher lists, or the newest here when it cannot be asked', async () => {
  const checksums = `http://127.0.0.1:${(server.address() as AddressInfo).port}/SHA256SUMS`;
  const published = entry('cloud', {
    kind: 'published',
    checksums,
    file: 'disk.img',
    algorithm: 'sha256',
    series: '22.04',
  });
  const newest = () => newestVersion(published, cache);
  list = undefined;
  assert.equal(await newest(), undefined);
  list = `${DIGEST('one')}  disk.img\n`;
  assert.equal(await newest(), '22.04.20260301');
  await cached(published, '22.04.20260301', `published ${DIGEST('one')}`);
  assert.equal(await newest(), '22.04.20260301');
  list = `${DIGEST('two')}  disk.img\n`;
  assert.equal(await newest(), '22.04.202603012', 'the second disk of one day');
  list = undefined;
  assert.equal(await newest(), '22.04.20260301');
  list = `${DIGEST('one')}  other.img\n`;
  await assert.rejects(newest(), { code: 'SourceNotFound' });
});

test('a list that has not changed is not fetched again', async () => {
  const checksums = `http://127.0.0.1:${(server.address() as AddressInfo).port}/tagged/SHA256SUMS`;
  const tagged = entry('tagged', {
    kind: 'published',
    checksums,
    file: 'disk.img',
    algorithm: 'sha256',
    series: '24.04',
  });
  const look = async () => {
    asked.length = 0;
    return [await newestVersion(tagged, cache), ...asked];
  };
  list = `${DIGEST('one')}  disk.img\n`;
  etag = '"first"';
  assert.deepEqual(await look(), ['24.04.20260301', 'HEAD', 'GET']);
  assert.deepEqual(await look(), ['24.04.20260301', 'HEAD']);
  await cached(tagged, '24.04.20260301', `published ${DIGEST('one')}`);
  list = `${DIGEST('two')}  disk.img\n`;
  etag = '"second"';
  assert.deepEqual(await look(), ['24.04.202603012', 'HEAD', 'GET']);
  list = undefined;
  assert.deepEqual((await look())[0], '24.04.20260301', 'what the publisher no longer shows is forgotten');
  etag = undefined;
});

test('numbers must have grown; other texts must differ', () => {
  const named = (version: string, name = 'A:b:c') => ({ name, version });
  assert.equal(isNewer(named('1.10.0'), named('1.9.0')), true);
  assert.equal(isNewer(named('1.9.0'), named('1.10.0')), false);
  assert.equal(isNewer(named('1.9.0', 'a:B:c'), named('1.9.0')), false);
  assert.equal(isNewer(named('sha256-a'), named('sha256-b')), true);
  assert.equal(isNewer(named('sha256-a'), named('sha256-a')), false);
  assert.equal(isNewer(named('1.0.0'), named('sha256-a')), true);
  assert.equal(isNewer(named('1.0.0', 'other:b:c'), named('1.0.0')), true, 'an alias that leads elsewhere');
});
