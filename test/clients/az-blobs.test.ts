/** The unmodified Azure CLI on containers and blobs: what it puts there is there, and what it says of it is true. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Az, azOf } from './az.ts';
import { type Served, serve } from './served.ts';
import { LOCATION } from './templates.ts';

const GROUP = 'blobs';
const ACCOUNT = 'kilnazblobs1';
const CONTAINER = 'scripts';

describe('az storage container and blob', () => {
  let served: Served;
  let az: Az;
  let login: string[];

  before(async () => {
    served = await serve();
    az = azOf(served);
    await az.json('group', 'create', '-n', GROUP, '-l', LOCATION);
    await az.json('storage', 'account', 'create', '-g', GROUP, '-n', ACCOUNT, '-l', LOCATION, '--sku', 'Standard_LRS');
    const keys = await az.json('storage', 'account', 'keys', 'list', '-g', GROUP, '-n', ACCOUNT);
    const endpoint = `BlobEndpoint=${served.origin}/${ACCOUNT};`;
    const text = `DefaultEndpointsProtocol=https;AccountName=${ACCOUNT};AccountKey=${keys[0].value};${endpoint}`;
    login = ['--connection-string', text];
  });
  after(async () => {
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  const container = (verb: string, ...args: string[]) => az.json('storage', 'container', verb, ...args, ...login);
  const blob = (verb: string, ...args: string[]) => az.json('storage', 'blob', verb, ...args, ...login);
  const file = (name: string) => join(served.home, name);
  const at = (name: string) => ['-c', CONTAINER, '-n', name];

  test('containers', async () => {
    assert.equal((await container('create', '-n', CONTAINER, '--metadata', 'a=b')).created, true);
    assert.equal((await container('create', '-n', CONTAINER)).created, false);
    assert.equal((await container('exists', '-n', CONTAINER)).exists, true);
    assert.equal((await container('exists', '-n', 'nothing')).exists, false);
    const shown = await container('show', '-n', CONTAINER);
    assert.deepEqual([shown.name, shown.metadata, shown.properties.lease.state], [CONTAINER, { a: 'b' }, 'available']);
    await container('metadata', 'update', '-n', CONTAINER, '--metadata', 'c=d');
    assert.deepEqual(await container('metadata', 'show', '-n', CONTAINER), { c: 'd' });
    await container(
      'policy',
      'create',
      '-c',
      CONTAINER,
      '-n',
      'readers',
      '--permissions',
      'r',
      '--expiry',
      '2040-01-01',
    );
    assert.equal((await container('policy', 'show', '-c', CONTAINER, '-n', 'readers')).permission, 'r');
    const listed: { name: string }[] = await container('list');
    assert.deepEqual(
      listed.map(({ name }) => name),
      [CONTAINER],
    );
    await container('create', '-n', 'other');
    assert.equal((await container('delete', '-n', 'other')).deleted, true);
  });

  test('block blobs go up and come down', async () => {
    const bytes = randomBytes(66 * 1024 * 1024);
    await writeFile(file('large'), bytes);
    await writeFile(file('hello.sh'), '#!/bin/sh\necho hello\n');
    await blob(
      'upload',
      ...at('dir/hello.sh'),
      '-f',
      file('hello.sh'),
      '--content-type',
      'text/x-sh',
      '--metadata',
      'k=v',
    );
    await az.fails(
      1,
      /BlobAlreadyExists|already exists/,
      'storage',
      'blob',
      'upload',
      ...at('dir/hello.sh'),
      '-f',
      file('hello.sh'),
      ...login,
    );
    await blob('upload', ...at('large'), '-f', file('large'), '--overwrite', '--validate-content');
    await blob('download', ...at('large'), '-f', file('large.back'));
    assert.ok((await readFile(file('large.back'))).equals(bytes));
    const shown = await blob('show', ...at('dir/hello.sh'));
    assert.deepEqual(
      [
        shown.properties.contentLength,
        shown.properties.contentSettings.contentType,
        shown.metadata,
        shown.properties.blobType,
      ],
      [21, 'text/x-sh', { k: 'v' }, 'BlockBlob'],
    );
    assert.equal((await blob('exists', ...at('dir/hello.sh'))).exists, true);
    assert.equal((await blob('exists', ...at('nothing'))).exists, false);
    const names = (list: { name: string }[]) => list.map(({ name }) => name);
    assert.deepEqual(names(await blob('list', '-c', CONTAINER)), ['dir/hello.sh', 'large']);
    assert.deepEqual(names(await blob('list', '-c', CONTAINER, '--delimiter', '/')), ['dir/', 'large']);
    assert.deepEqual(names(await blob('list', '-c', CONTAINER, '--prefix', 'dir/', '--num-results', '1')), [
      'dir/hello.sh',
    ]);
    await blob('update', ...at('large'), '--content-type', 'application/x-large');
    await blob('metadata', 'update', ...at('large'), '--metadata', 'x=y');
    assert.deepEqual(await blob('metadata', 'show', ...at('large')), { x: 'y' });
    await blob('set-tier', ...at('large'), '--tier', 'Cool');
    assert.equal((await blob('show', ...at('large'))).properties.blobTier, 'Cool');
  });

  test('copies, leases, batches, deletions', async () => {
    const from = ['--source-container', CONTAINER, '--source-blob', 'dir/hello.sh'];
    const copied = await blob(
      'copy',
      'start',
      '--destination-container',
      CONTAINER,
      '--destination-blob',
      'copy',
      ...from,
    );
    assert.equal(copied.copy_status, 'success');
    const lease = await blob('lease', 'acquire', '-c', CONTAINER, '-b', 'copy', '--lease-duration', '30');
    await az.fails(1, /LeaseIdMissing|lease/, 'storage', 'blob', 'delete', ...at('copy'), ...login);
    await blob('lease', 'release', '-c', CONTAINER, '-b', 'copy', '--lease-id', lease);
    await blob(
      'upload-batch',
      '-d',
      CONTAINER,
      '-s',
      served.home,
      '--pattern',
      'hello.sh',
      '--destination-path',
      'batch',
    );
    await blob('download-batch', '-d', served.home, '-s', CONTAINER, '--pattern', 'batch/*');
    assert.equal((await readFile(file('batch/hello.sh'))).toString(), '#!/bin/sh\necho hello\n');
    await blob('delete', ...at('copy'));
    await blob('delete-batch', '-s', CONTAINER, '--pattern', 'batch/*');
    const left: { name: string }[] = await blob('list', '-c', CONTAINER);
    assert.deepEqual(
      left.map(({ name }) => name),
      ['dir/hello.sh', 'large'],
    );
    await az.fails(3, /BlobNotFound|not exist/, 'storage', 'blob', 'show', ...at('copy'), ...login);
  });

  test('a disk goes up as a page blob, and its holes are none of its bytes', async () => {
    const path = file('disk.vhd');
    await writeFile(path, randomBytes(8192));
    await truncate(path, 9 * 1024 * 1024);
    await blob('upload', ...at('disk.vhd'), '-f', path, '--type', 'page');
    const shown = await blob('show', ...at('disk.vhd'));
    assert.deepEqual([shown.properties.blobType, shown.properties.contentLength], ['PageBlob', 9 * 1024 * 1024]);
    await blob('download', ...at('disk.vhd'), '-f', file('disk.back'));
    assert.ok((await readFile(file('disk.back'))).equals(await readFile(path)));
    const appended = file('line');
    await writeFile(appended, 'line\n');
    for (const _ of [1, 2]) await blob('upload', ...at('journal'), '-f', appended, '--type', 'append');
    await blob('download', ...at('journal'), '-f', file('journal.back'));
    assert.equal((await readFile(file('journal.back'))).toString(), 'line\nline\n');
  });

  test('a signed URL is enough to read', async () => {
    const args = ['--permissions', 'r', '--expiry', '2040-01-01T00:00:00Z', '--full-uri'];
    const url = await blob('generate-sas', ...at('dir/hello.sh'), ...args);
    await az.json('storage', 'blob', 'download', '--blob-url', url, '-f', file('signed'));
    assert.equal((await readFile(file('signed'))).toString(), '#!/bin/sh\necho hello\n');
  });
});
