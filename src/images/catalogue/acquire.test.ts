import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { run } from '../../processes/process.ts';
import { acquirePlatformImage, resolvePlatformImage } from './acquire.ts';
import type { CatalogueEntry, Origin } from './entries.ts';
import { compareVersions } from './source-cache.ts';

let directory: string;
let server: Server;
let base: string;
/** What a publisher's web site holds: path → content. */
let site: Map<string, Buffer>;
let asked: string[];
let online: boolean;
let modified: string;

before(async () => {
  server = createServer((request, response) => {
    asked.push(request.url!);
    const body = online ? site.get(request.url!.split('?')[0]!) : undefined;
    if (!body) return void response.writeHead(404).end();
    response.writeHead(200, { 'last-modified': modified, 'content-length': body.length }).end(body);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-acquire-'));
  site = new Map();
  asked = [];
  online = true;
  modified = 'Sun, 01 Mar 2026 10:00:00 GMT';
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const NAME = { publisher: 'Contoso', offer: 'linux', sku: '1-gen2' };
const reference = (version = 'latest') => ({ ...NAME, version });

function options(origin: Origin) {
  const common = { osType: 'Linux', architecture: 'x64', firmware: 'bios', provisioning: 'cloud-init' } as const;
  const entry: CatalogueEntry = { ...NAME, ...common, hyperVGeneration: 'V2', origin };
  const sibling: CatalogueEntry = {
    ...entry,
    sku: '1',
    hyperVGeneration: 'V1',
    origin: { kind: 'sibling', sku: '1-gen2' },
  };
  const said: string[] = [];
  return {
    cacheDirectory: join(directory, 'cache'),
    userEntries: { entries: [entry, sibling], aliases: [] },
    report: (line: string) => void said.push(line),
    said,
  };
}

async function disk(
  label: string,
  format = 'qcow2',
  extra: readonly string[] = [],
): Promise<{ path: string; bytes: Buffer }> {
  const path = join(directory, `${label}.${format}`);
  const raw = join(directory, 'one.raw');
  const sector = Buffer.alloc(2 * 1024 * 1024);
  sector.write(label);
  sector.writeUInt16LE(0xaa55, 510);
  await writeFile(raw, sector);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...extra, raw, path]);
  return { path, bytes: await readFile(path) };
}

/** The layout that Debian, Ubuntu and AlmaLinux share: a list and the disks beside it. */
function publish(bytes: Buffer, algorithm: 'sha256' | 'sha512' = 'sha512'): Origin & { kind: 'published' } {
  const digest = createHash(algorithm).update(bytes).digest('hex');
  site.set('/images/latest/disk.qcow2', bytes);
  site.set('/images/latest/SUMS', Buffer.from(`${'0'.repeat(digest.length)}  other.qcow2\n${digest}  disk.qcow2\n`));
  return { kind: 'published', checksums: `${base}/images/latest/SUMS`, file: 'disk.qcow2', algorithm, series: '0' };
}

test('a published image is downloaded once, verified and kept', async () => {
  const { bytes } = await disk('first');
  const given = options(publish(bytes));
  assert.equal((await resolvePlatformImage(reference(), given)).exactVersion, undefined);
  const image = await acquirePlatformImage(reference(), given);
  assert.equal(image.name, 'Contoso:linux:1-gen2:0.20260301.0');
  assert.equal(image.exactVersion, '0.20260301.0');
  assert.deepEqual(await readFile(image.disk.path), bytes);
  assert.equal(image.sha256, createHash('sha256').update(bytes).digest('hex'));
  assert.equal(image.virtualSize, 2 * 1024 * 1024);
  assert.equal((await stat(image.disk.path)).mode & 0o777, 0o444);
  assert.deepEqual(await acquirePlatformImage(reference(), given), image);
  assert.deepEqual(await acquirePlatformImage(reference('0.20260301.0'), given), image);
  assert.equal(asked.filter(path => path.endsWith('.qcow2')).length, 1);
  assert.equal((await resolvePlatformImage(reference(), given)).exactVersion, '0.20260301.0');
  const folder = join(given.cacheDirectory, 'Contoso_linux_1-gen2');
  assert.deepEqual((await readdir(folder)).sort(), ['.lock', '0.20260301.0']);
});

test('both generations share one disk', async () => {
  const { bytes } = await disk('shared');
  const given = options(publish(bytes, 'sha256'));
  const second = await acquirePlatformImage(reference(), given);
  const first = await acquirePlatformImage({ ...reference(), sku: '1' }, given);
  assert.equal(first.disk.path, second.disk.path);
  assert.equal(first.hyperVGeneration, 'V1');
  assert.equal(first.name, 'Contoso:linux:1:0.20260301.0');
});

test('a new publication is a new version, the old one stays; offline the newest one here serves', async () => {
  const given = options(publish((await disk('old')).bytes));
  await acquirePlatformImage(reference(), given);
  modified = 'Mon, 02 Mar 2026 10:00:00 GMT';
  publish((await disk('new')).bytes);
  assert.equal((await acquirePlatformImage(reference(), given)).exactVersion, '0.20260302.0');
  publish((await disk('newer')).bytes);
  assert.equal((await acquirePlatformImage(reference(), given)).exactVersion, '0.20260302.1');
  assert.equal((await acquirePlatformImage(reference('0.20260301.0'), given)).exactVersion, '0.20260301.0');
  online = false;
  assert.equal((await acquirePlatformImage(reference(), given)).exactVersion, '0.20260302.1');
  assert.match(given.said.at(-1)!, /404.*Using version 0\.20260302\.1, which is here already/);
  await assert.rejects(acquirePlatformImage(reference(), { ...given, cacheDirectory: join(directory, 'empty') }), {
    code: 'DownloadFailed',
  });
});

test('a version that nobody has is refused with those that there are', async () => {
  const given = options(publish((await disk('some')).bytes));
  await assert.rejects(acquirePlatformImage(reference('9.9.9'), given), {
    code: 'SourceNotFound',
    hint: /0\.20260301\.0/,
  });
});

test('a disk that is not what the list says, or that reaches for other files, is refused and not kept', async () => {
  const { bytes, path } = await disk('good');
  const given = options(publish(bytes));
  site.set('/images/latest/disk.qcow2', Buffer.concat([bytes, Buffer.from('!')]));
  await assert.rejects(acquirePlatformImage(reference(), given), { code: 'ChecksumMismatch' });
  const overlay = join(directory, 'overlay.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', path, '-F', 'qcow2', overlay]);
  publish(await readFile(overlay));
  await assert.rejects(acquirePlatformImage(reference(), given), { code: 'SourceUnusable', message: /backing file/ });
  site.set('/images/latest/SUMS', Buffer.from('nothing here'));
  await assert.rejects(acquirePlatformImage(reference(), given), {
    code: 'SourceNotFound',
    message: /does not list disk\.qcow2/,
  });
  assert.deepEqual(await readdir(join(given.cacheDirectory, 'Contoso_linux_1-gen2')), ['.lock']);
});

test('two at once make one; what a dead process left half-made is swept', async () => {
  const given = options(publish((await disk('both')).bytes));
  const folder = join(given.cacheDirectory, 'Contoso_linux_1-gen2');
  await mkdir(join(folder, '.making-dead'), { recursive: true });
  const [a, b] = await Promise.all([
    acquirePlatformImage(reference(), given),
    acquirePlatformImage(reference(), given),
  ]);
  assert.deepEqual(a, b);
  assert.equal(asked.filter(path => path.endsWith('.qcow2')).length, 1);
  assert.deepEqual(
    given.said.filter(line => line.includes('waiting')),
    ['Another kiln process is preparing Contoso:linux:1-gen2; waiting for it.'],
  );
  assert.deepEqual((await readdir(folder)).sort(), ['.lock', '0.20260301.0']);
});

test('a damaged version is made anew', async () => {
  const given = options(publish((await disk('whole')).bytes));
  const image = await acquirePlatformImage(reference(), given);
  await rm(image.disk.path);
  await writeFile(image.disk.path, 'cut');
  assert.equal((await acquirePlatformImage(reference(), given)).sha256, image.sha256);
  assert.equal(
    createHash('sha256')
      .update(await readFile(image.disk.path))
      .digest('hex'),
    image.sha256,
  );
});

test('a local file: copied once, again when it changed; a VHD becomes qcow2', async () => {
  const { path, bytes } = await disk('local');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  await utimes(path, new Date('2026-01-02T03:04:05Z'), new Date('2026-01-02T03:04:05Z'));
  const given = options({ kind: 'file', path, sha256 });
  const image = await acquirePlatformImage(reference(), given);
  assert.equal(image.exactVersion, '0.20260102.0');
  assert.equal((await acquirePlatformImage(reference(), given)).disk.path, image.disk.path);
  assert.equal(given.said.length, 1);

  const wrong = options({ kind: 'file', path, sha256: '0'.repeat(64) });
  await assert.rejects(acquirePlatformImage(reference(), wrong), { code: 'ChecksumMismatch' });
  const missing = options({ kind: 'file', path: `${path}.no` });
  await assert.rejects(acquirePlatformImage(reference(), missing), {
    code: 'SourceUnusable',
    message: /cannot be read/,
  });

  const vhd = await disk('other', 'vpc', ['-o', 'subformat=fixed,force_size=on']);
  const changed = await acquirePlatformImage(reference(), options({ kind: 'file', path: vhd.path, version: '2.0.0' }));
  assert.equal(changed.exactVersion, '2.0.0');
  assert.equal(changed.disk.format, 'qcow2');
  await run('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', 'vpc', changed.disk.path, vhd.path]);
  await assert.rejects(acquirePlatformImage(reference(), options({ kind: 'file', path, version: '2.0.0' })), {
    code: 'Conflict',
  });
});

test('a URL with its checksum', async () => {
  const { bytes } = await disk('url');
  site.set('/disk.qcow2', bytes);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const given = options({ kind: 'url', url: `${base}/disk.qcow2?sig=secret`, sha256, version: '1.0.0' });
  const image = await acquirePlatformImage(reference('1.0.0'), given);
  assert.equal(image.sha256, sha256);
  assert.equal(given.said[0], `Downloading ${base}/disk.qcow2.`);
});

test('versions are ordered by number', () => {
  const sorted = ['0.9.0', '0.10.0', '0.10.10', '22.04.20260301', '22.04.202603012', '99999999999999999999.0.0'];
  assert.deepEqual([...sorted].reverse().sort(compareVersions), sorted);
});
