import assert from 'node:assert/strict';
import { mkdtemp, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { run } from '../../processes/process.ts';
import { acquirePlatformImage } from './acquire.ts';
import type { CatalogueEntry, Origin } from './entries.ts';
import { knownVersions } from './versions.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-versions-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const NAME = { publisher: 'Contoso', offer: 'linux', sku: '1' };

function given(origin: Origin) {
  const common = { osType: 'Linux', architecture: 'x64', firmware: 'bios', provisioning: 'cloud-init' } as const;
  const entry: CatalogueEntry = { ...NAME, ...common, hyperVGeneration: 'V1', origin };
  return { entry, cacheDirectory: join(directory, 'cache'), userEntries: { entries: [entry], aliases: [] } };
}

test('a local file without a version has the one that it gets when it is taken, and can be asked for by it', async () => {
  const path = join(directory, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '2M']);
  await utimes(path, new Date('2026-01-02T03:04:05Z'), new Date('2026-01-02T03:04:05Z'));
  const file = given({ kind: 'file', path });
  assert.deepEqual(await knownVersions(file.entry, file), [{ version: '0.20260102.0' }]);
  await assert.rejects(acquirePlatformImage({ ...NAME, version: '0.20260102.1' }, file), { code: 'SourceNotFound' });
  const image = await acquirePlatformImage({ ...NAME, version: '0.20260102.0' }, file);
  assert.equal(image.exactVersion, '0.20260102.0');
  // It is here now, and the same file brings nothing new.
  const here = { version: '0.20260102.0', virtualSize: 2 * 1024 * 1024 };
  assert.deepEqual(await knownVersions(file.entry, file), [here]);
  await utimes(path, new Date('2026-01-03T03:04:05Z'), new Date('2026-01-03T03:04:05Z'));
  assert.deepEqual(await knownVersions(file.entry, file), [here, { version: '0.20260103.0' }]);
  await rm(path);
  assert.deepEqual(await knownVersions(file.entry, file), [here]);
});

test('what would be made from packages has the version of today; what nobody can say has none', async () => {
  const made = given({ kind: 'bootstrap', distribution: 'debian', release: 'bookworm' });
  const [one, ...others] = await knownVersions(made.entry, made);
  assert.match(one!.version, /^0\.\d{8}\.0$/);
  assert.deepEqual(others, []);
  const url = 'https://images.invalid/disk.qcow2';
  const named = given({ kind: 'url', url, sha256: 'a'.repeat(64), version: '3.2.1' });
  assert.deepEqual(await knownVersions(named.entry, named), [{ version: '3.2.1' }]);
  const nameless = given({ kind: 'url', url, sha256: 'a'.repeat(64) });
  assert.deepEqual(await knownVersions(nameless.entry, nameless), []);
  // Nobody answers under that name.
  const checksums = 'https://images.invalid/SHA256SUMS';
  const published = given({ kind: 'published', checksums, file: 'disk', algorithm: 'sha256', series: '0' });
  assert.deepEqual(await knownVersions(published.entry, published), []);
});
