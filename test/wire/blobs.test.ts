/** The blob service over the real server, with Microsoft's own client and with bare requests. */
import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import https from 'node:https';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlobSASPermissions, type ContainerClient, type RestError } from '@azure/storage-blob';
import fc from 'fast-check';
import { Crc64 } from '../../src/blobs/crc64.ts';
import { compareNames } from '../../src/blobs/names.ts';
import { startTestServer, type TestServer } from '../server.ts';
import { type TestAccount, testAccount } from './blob-client.ts';

let server: TestServer;
let account: TestAccount;
let other: TestAccount;
let container: ContainerClient;

before(async () => {
  server = await startTestServer();
  account = await testAccount(server, 'blobsofatest');
  other = await testAccount(server, 'otherblobs');
  container = account.service.getContainerClient('tests');
  await container.create();
});
after(() => server?.close());

const refusedWith = (status: number, code: string) => (error: unknown) => {
  const { statusCode, code: said, details } = error as RestError;
  assert.equal(statusCode, status, String(error));
  assert.equal((details as { errorCode?: string } | undefined)?.errorCode ?? said, code);
  return true;
};

/** By a signature, so that any header can be sent. */
const send = (
  method: string,
  path: string,
  options: { body?: Uint8Array | string; headers?: Record<string, string> } = {},
) =>
  server.request(method, `/${account.name}${path}${path.includes('?') ? account.sas.replace('?', '&') : account.sas}`, {
    token: null,
    ...options,
  });

async function content(name: string, offset?: number, count?: number): Promise<Buffer> {
  return await container.getBlobClient(name).downloadToBuffer(offset, count);
}

/** Files of blobs, once nothing is being removed any more. */
async function files(): Promise<string[]> {
  const { blobs } = server.service.home;
  const all = await readdir(blobs, { recursive: true, withFileTypes: true });
  return all.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
}

async function named(): Promise<number> {
  const { kysely } = server.service.database;
  const extents = await kysely.selectFrom('blob_extent').select('file').distinct().execute();
  const blocks = await kysely.selectFrom('blob_block').select('file').distinct().execute();
  return new Set([...extents, ...blocks].map(({ file }) => file)).size;
}

/** Fails with the test's time. */
async function nothingLeftOver(): Promise<void> {
  for (;;) {
    if ((await files()).length === (await named())) return;
    await sleep(50);
  }
}

test('containers are made, shown, listed in pages, and deleted', async () => {
  const { service } = account;
  const made = service.getContainerClient('made-1');
  assert.equal(await made.exists(), false);
  await made.create({ metadata: { Purpose: 'a test', other: 'x' } });
  assert.equal(await made.exists(), true);
  await assert.rejects(made.create(), refusedWith(409, 'ContainerAlreadyExists'));
  assert.equal((await made.createIfNotExists()).succeeded, false);
  const shown = await made.getProperties();
  assert.deepEqual(shown.metadata, { purpose: 'a test', other: 'x' });
  const set = await made.setMetadata({ again: 'y' });
  assert.notEqual(set.etag, shown.etag);
  for (const name of ['made-2', 'made-3']) await service.createContainer(name);
  const listed: string[] = [];
  for await (const page of service
    .listContainers({ prefix: 'made-', includeMetadata: true })
    .byPage({ maxPageSize: 2 })) {
    assert.ok(page.containerItems.length <= 2);
    listed.push(...page.containerItems.map(({ name, metadata }) => `${name} ${metadata?.again ?? ''}`));
  }
  assert.deepEqual(listed, ['made-1 y', 'made-2 ', 'made-3 ']);
  await made.delete();
  assert.equal(await made.exists(), false);
  await assert.rejects(made.delete(), refusedWith(404, 'ContainerNotFound'));
  await assert.rejects(made.uploadBlockBlob('a', 'x', 1), refusedWith(404, 'ContainerNotFound'));
  await assert.rejects(service.createContainer('No_Name'), refusedWith(400, 'InvalidResourceName'));
  await assert.rejects(service.createContainer('x'), refusedWith(400, 'OutOfRangeInput'));
});

test('a blob of many blocks is what was sent, in whole and in parts', async () => {
  const bytes = randomBytes(9 * 1024 * 1024 + 17);
  const client = container.getBlockBlobClient('many/blocks');
  await client.uploadData(bytes, {
    blockSize: 1024 * 1024,
    maxSingleShotSize: 0,
    concurrency: 3,
    blobHTTPHeaders: { blobContentType: 'text/x', blobCacheControl: 'no-store', blobContentDisposition: 'inline' },
    metadata: { Kept: 'Yes' },
  });
  assert.deepEqual(await content('many/blocks'), bytes);
  const shown = await client.getProperties();
  assert.equal(shown.contentLength, bytes.length);
  assert.deepEqual([shown.contentType, shown.cacheControl, shown.contentDisposition], ['text/x', 'no-store', 'inline']);
  assert.equal((await client.getBlockList('all')).committedBlocks?.length, 10);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(3_000_000), async (start, length) => {
      const end = Math.min(start + length, bytes.length - 1);
      const answer = await container.getBlobClient('many/blocks').downloadToBuffer(start, end - start + 1);
      assert.ok(answer.equals(bytes.subarray(start, end + 1)));
    }),
    { numRuns: 20 },
  );
  const part = await client.download(100, 50, { rangeGetContentMD5: true });
  assert.deepEqual(Buffer.from(part.contentMD5!), createHash('md5').update(bytes.subarray(100, 150)).digest());
  await assert.rejects(client.download(bytes.length), refusedWith(416, 'InvalidRange'));
  await client.delete();
  await assert.rejects(client.getProperties(), { statusCode: 404 });
  await nothingLeftOver();
});

test('blocks are put together in the order of the list, again and anew', async () => {
  const client = container.getBlockBlobClient('blocks');
  const id = (text: string) => Buffer.from(text).toString('base64');
  await client.stageBlock(id('a'), 'aaa', 3);
  await client.stageBlock(id('b'), 'bb', 2);
  await assert.rejects(client.getProperties(), { statusCode: 404 });
  assert.equal((await client.getBlockList('uncommitted')).uncommittedBlocks?.length, 2);
  await assert.rejects(client.commitBlockList([id('c')]), refusedWith(400, 'InvalidBlockList'));
  await client.commitBlockList([id('b'), id('a'), id('b')]);
  assert.equal((await content('blocks')).toString(), 'bbaaabb');
  // Latest: a block that waits comes before one of the same name in the blob.
  await client.stageBlock(id('a'), 'AAAA', 4);
  await client.commitBlockList([id('a'), id('b')]);
  assert.equal((await content('blocks')).toString(), 'AAAAbb');
  await client.stageBlock(id('a'), 'x', 1);
  const list = (tags: string) =>
    send('PUT', '/tests/blocks?comp=blocklist', { body: `<?xml version="1.0"?><BlockList>${tags}</BlockList>` });
  const committed = `<Committed>${id('a')}</Committed><Uncommitted>${id('a')}</Uncommitted><Latest>${id('b')}</Latest>`;
  assert.equal((await list(committed)).status, 201);
  assert.equal((await content('blocks')).toString(), 'AAAAxbb');
  for (const [body, code] of [
    ['<Uncommitted>!!</Uncommitted>', 'InvalidBlockId'],
    ['<Any>YQ==</Any>', 'InvalidXmlDocument'],
    ['</BlockList><BlockList>', 'InvalidXmlDocument'],
    ['<__proto__>YQ==</__proto__>', 'InvalidXmlDocument'],
    [`${'<Latest>'.repeat(10_000)}${'</Latest>'.repeat(10_000)}`, 'InvalidXmlDocument'],
  ] as const) {
    const answer = await list(body);
    assert.deepEqual([answer.status, answer.headers['x-ms-error-code']], [400, code]);
  }
  const bomb = '<!DOCTYPE x [<!ENTITY a "YQ==">]><BlockList><Latest>&a;</Latest></BlockList>';
  assert.equal((await send('PUT', '/tests/blocks?comp=blocklist', { body: bomb })).status, 400);
  await assert.rejects(
    client.stageBlock(id('long'), 'x', 1).then(() => client.stageBlock(id('a'), 'x', 1)),
    {
      code: 'InvalidBlobOrBlock',
    },
  );
  await client.delete();
  await nothingLeftOver();
});

test('what does not arrive as it was sent is not taken', async () => {
  const body = Buffer.from('some bytes');
  const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest('base64');
  const blob = { 'x-ms-blob-type': 'BlockBlob' };
  const put = (headers: Record<string, string>) =>
    send('PUT', '/tests/checked', { body, headers: { ...blob, ...headers } });
  for (const [headers, code] of [
    [{ 'content-md5': md5(Buffer.from('other')) }, 'Md5Mismatch'],
    [{ 'x-ms-blob-content-md5': md5(Buffer.from('other')) }, 'Md5Mismatch'],
    [{ 'content-md5': 'x' }, 'InvalidMd5'],
    [{ 'x-ms-content-crc64': new Crc64().digest().toString('base64') }, 'Crc64Mismatch'],
    [{ 'x-ms-meta-a b': 'x' }, 'InvalidMetadata'],
    [{ 'x-ms-lease-id': 'x' }, 'InvalidHeaderValue'],
    [{ 'x-ms-blob-type': 'Blob' }, 'InvalidHeaderValue'],
    [{ 'x-ms-structured-body': 'XSM/1.0' }, 'UnsupportedHeader'],
  ] as const) {
    const answer = await put(headers as Record<string, string>).catch(error => {
      // Node's client itself sends no such name.
      assert.equal(error.code, 'ERR_INVALID_HTTP_TOKEN');
    });
    if (answer) assert.deepEqual([answer.status, answer.headers['x-ms-error-code']], [400, code]);
  }
  assert.equal((await send('HEAD', '/tests/checked')).status, 404);
  const good = await put({
    'content-md5': md5(body),
    'x-ms-content-crc64': new Crc64().update(body).digest().toString('base64'),
    'content-type': 'text/plain',
  });
  assert.equal(good.status, 201, good.text);
  assert.equal(good.headers['content-md5'], md5(body));
  const got = await send('GET', '/tests/checked');
  assert.deepEqual(
    [got.text, got.headers['content-md5'], got.headers['content-type']],
    ['some bytes', md5(body), 'text/plain'],
  );
  const part = await send('GET', '/tests/checked', { headers: { 'x-ms-range': 'bytes=5-', range: 'bytes=0-1' } });
  assert.deepEqual([part.status, part.text, part.headers['content-range']], [206, 'bytes', 'bytes 5-9/10']);
  assert.deepEqual([part.headers['content-md5'], part.headers['x-ms-blob-content-md5']], [undefined, md5(body)]);
  await nothingLeftOver();
});

test('names have what names may have, and lists are in their order', async () => {
  const odd = account.service.getContainerClient('odd-names');
  await odd.create();
  const character = fc.oneof(
    fc.constantFrom('/', '.', '%', '+', ' ', 'ä', '漢', '😀', '\uffff', '&', '<', '"', '?', '#'),
    fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 1 }),
  );
  const name = fc
    .array(character, { minLength: 1, maxLength: 12 })
    .map(parts => parts.join(''))
    // What URLs themselves take away, and what clients write for another character.
    .filter(text => !/(^|\/)\.{1,2}(\/|$)|^\/|\\|[\0-\x1f\x7f]/.test(text) && text.isWellFormed());
  const names = [...new Set([...fc.sample(name, 30), 'a//b', 'a/', 'dir/one', 'dir/two', 'dirt', 'dir'])];
  for (const one of names) await odd.getBlockBlobClient(one).upload(one, Buffer.byteLength(one));
  for (const one of names)
    assert.equal((await odd.getBlobClient(one).downloadToBuffer()).toString(), one, JSON.stringify(one));
  const sorted = names.toSorted(compareNames);
  for (const maxPageSize of [4, 5000]) {
    const listed: string[] = [];
    for await (const page of odd.listBlobsFlat().byPage({ maxPageSize }))
      listed.push(...page.segment.blobItems.map(blob => blob.name));
    assert.deepEqual(listed, sorted);
  }
  for (const prefix of ['', 'dir', 'dir/', 'a/']) {
    const expected = new Set(
      sorted
        .filter(one => one.startsWith(prefix))
        .map(one => {
          const end = one.indexOf('/', prefix.length);
          return end === -1 ? `blob ${one}` : `prefix ${one.slice(0, end + 1)}`;
        }),
    );
    for (const maxPageSize of [1, 3, 5000]) {
      const found: string[] = [];
      for await (const page of odd.listBlobsByHierarchy('/', { prefix }).byPage({ maxPageSize })) {
        const { blobPrefixes = [], blobItems } = page.segment;
        assert.ok(blobPrefixes.length + blobItems.length <= maxPageSize);
        found.push(
          ...blobPrefixes.map(({ name: one }) => `prefix ${one}`),
          ...blobItems.map(({ name: one }) => `blob ${one}`),
        );
      }
      assert.deepEqual(new Set(found), expected);
      assert.equal(found.length, expected.size);
    }
  }
  await odd.delete();
  await nothingLeftOver();
});

test('a page blob is zeros but for what was written', async () => {
  const client = container.getPageBlobClient('disk');
  await client.create(1024 * 1024, { blobSequenceNumber: 5 });
  await client.uploadPages(Buffer.alloc(1024, 'a'), 512, 1024);
  await client.uploadPages(Buffer.alloc(512, 'b'), 1024, 512);
  await client.uploadPages(Buffer.alloc(512, 'c'), 4096, 512);
  await client.clearPages(512, 256 * 2);
  const expected = Buffer.alloc(1024 * 1024);
  expected.fill('b', 1024, 1536);
  expected.fill('c', 4096, 4608);
  assert.ok((await content('disk')).equals(expected));
  // The library's count is one too small: it takes the last byte for the end.
  const pages = async (offset?: number, count?: number) =>
    (await client.getPageRanges(offset, count)).pageRange?.map(range => [
      range.offset,
      range.offset + range.count! + 1,
    ]);
  assert.deepEqual(await pages(), [
    [1024, 1536],
    [4096, 4608],
  ]);
  assert.deepEqual(await pages(0, 4096), [[1024, 1536]]);
  await assert.rejects(client.uploadPages(Buffer.alloc(512), 100, 512), { statusCode: 416 });
  await assert.rejects(client.uploadPages(Buffer.alloc(512), 1024 * 1024, 512), refusedWith(416, 'InvalidPageRange'));
  await assert.rejects(
    client.uploadPages(Buffer.alloc(512), 0, 512, { conditions: { ifSequenceNumberLessThan: 5 } }),
    refusedWith(412, 'SequenceNumberConditionNotMet'),
  );
  await client.updateSequenceNumber('increment');
  assert.equal((await client.getProperties()).blobSequenceNumber, 6);
  await client.resize(2048);
  await client.resize(8192);
  assert.deepEqual(await pages(), [[1024, 1536]]);
  assert.equal((await client.getProperties()).contentLength, 8192);
  await assert.rejects(client.create(1000), refusedWith(400, 'OutOfRangeInput'));
  const huge = container.getPageBlobClient('huge');
  await huge.create(8 * 2 ** 40);
  assert.ok((await content('huge', 8 * 2 ** 40 - 10, 10)).equals(Buffer.alloc(10)));
  for (const blob of [client, huge]) await blob.delete();
  await nothingLeftOver();
});

test('an empty blob is one', async () => {
  const client = container.getBlockBlobClient('empty');
  await client.upload('', 0);
  assert.equal((await client.getProperties()).contentLength, 0);
  const whole = await send('GET', '/tests/empty');
  assert.deepEqual([whole.status, whole.text, whole.headers['content-length']], [200, '', '0']);
  const range = await send('GET', '/tests/empty', { headers: { range: 'bytes=0-9' } });
  assert.deepEqual([range.status, range.headers['x-ms-error-code']], [416, 'InvalidRange']);
  await client.syncCopyFromURL(client.url);
  await client.delete();
});

test('what a signature wants as a header is one, or refused', async () => {
  const client = container.getBlockBlobClient('overridden');
  await client.upload('x', 1);
  const signed = async (contentDisposition: string) => {
    const options = {
      permissions: BlobSASPermissions.parse('r'),
      expiresOn: new Date(Date.now() + 60_000),
      contentDisposition,
    };
    return await server.request('GET', await client.generateSasUrl(options), { token: null });
  };
  const named = await signed('attachment; filename="a.txt"');
  assert.deepEqual([named.status, named.headers['content-disposition']], [200, 'attachment; filename="a.txt"']);
  for (const bad of ['a\r\nx-injected: y', 'ключ']) assert.equal((await signed(bad)).status, 400, bad);
  await client.delete();
  await nothingLeftOver();
});

test('an append blob grows', async () => {
  const client = container.getAppendBlobClient('journal');
  await client.create();
  const first = await client.appendBlock('one ', 4);
  assert.equal(first.blobAppendOffset, '0');
  const second = await client.appendBlock('two', 3, { conditions: { appendPosition: 4 } });
  assert.deepEqual([second.blobAppendOffset, second.blobCommittedBlockCount], ['4', 2]);
  await assert.rejects(
    client.appendBlock('x', 1, { conditions: { appendPosition: 4 } }),
    refusedWith(412, 'AppendPositionConditionNotMet'),
  );
  await assert.rejects(
    client.appendBlock('x', 1, { conditions: { maxSize: 7 } }),
    refusedWith(412, 'MaxBlobSizeConditionNotMet'),
  );
  assert.equal((await content('journal')).toString(), 'one two');
  await assert.rejects(
    container.getBlockBlobClient('journal').stageBlock('YQ==', 'x', 1),
    refusedWith(409, 'InvalidBlobType'),
  );
});

test('conditions hold, for readers and for writers', async () => {
  const client = container.getBlockBlobClient('conditional');
  await assert.rejects(
    client.upload('x', 1, { conditions: { ifMatch: '"0x1"' } }),
    refusedWith(412, 'ConditionNotMet'),
  );
  const { etag, lastModified } = await client.upload('first', 5, { conditions: { ifNoneMatch: '*' } });
  await assert.rejects(
    client.upload('x', 1, { conditions: { ifNoneMatch: '*' } }),
    refusedWith(409, 'BlobAlreadyExists'),
  );
  await assert.rejects(
    client.upload('x', 1, { conditions: { ifMatch: '"0x1"' } }),
    refusedWith(412, 'ConditionNotMet'),
  );
  const head = (headers: Record<string, string>) => send('HEAD', '/tests/conditional', { headers });
  assert.equal((await head({ 'if-none-match': etag! })).status, 304);
  assert.equal((await head({ 'if-modified-since': lastModified!.toUTCString() })).status, 304);
  assert.equal((await head({ 'if-unmodified-since': lastModified!.toUTCString() })).status, 200);
  assert.equal((await head({ 'if-unmodified-since': new Date(0).toUTCString() })).status, 412);
  assert.equal((await head({ 'if-match': etag! })).status, 200);
  assert.equal((await head({ 'if-match': '"0x1"' })).status, 412);
  const second = await client.upload('second', 6, { conditions: { ifMatch: etag! } });
  assert.notEqual(second.etag, etag);
  await assert.rejects(client.delete({ conditions: { ifMatch: etag! } }), { statusCode: 412 });
  assert.equal((await content('conditional')).toString(), 'second');
});

test('headers, metadata, tags and the tier can be changed', async () => {
  const client = container.getBlockBlobClient('described');
  await client.upload('x', 1, { metadata: { First: '1' }, tags: { a: 'b' }, tier: 'Cool' });
  await client.setHTTPHeaders({ blobContentType: 'text/html', blobContentLanguage: 'de' });
  await client.setMetadata({ second: 'zwei' });
  await client.setTags({ project: 'kiln x' });
  const shown = await client.getProperties();
  assert.deepEqual(
    [shown.contentType, shown.contentLanguage, shown.accessTier, shown.tagCount],
    ['text/html', 'de', 'Cool', 1],
  );
  assert.deepEqual(shown.metadata, { second: 'zwei' });
  assert.deepEqual((await client.getTags()).tags, { project: 'kiln x' });
  await client.setAccessTier('Hot');
  for await (const blob of container.listBlobsFlat({ prefix: 'described', includeMetadata: true, includeTags: true })) {
    assert.deepEqual(
      [blob.metadata, blob.tags, blob.properties.accessTier],
      [{ second: 'zwei' }, { project: 'kiln x' }, 'Hot'],
    );
    assert.equal(blob.properties.contentMD5, undefined);
  }
  await assert.rejects(client.setAccessTier('Archive'), refusedWith(400, 'FeatureNotSupported'));
  await assert.rejects(client.createSnapshot(), refusedWith(400, 'FeatureNotSupported'));
});

test('a lease keeps others from writing', async () => {
  const client = container.getBlockBlobClient('leased');
  await client.upload('x', 1);
  const lease = client.getBlobLeaseClient();
  const { leaseId } = await lease.acquireLease(-1);
  await assert.rejects(client.upload('y', 1), refusedWith(412, 'LeaseIdMissing'));
  await assert.rejects(client.delete(), refusedWith(412, 'LeaseIdMissing'));
  await assert.rejects(
    client.upload('y', 1, { conditions: { leaseId: randomUUID() } }),
    refusedWith(412, 'LeaseIdMismatchWithBlobOperation'),
  );
  await assert.rejects(client.getBlobLeaseClient().acquireLease(15), refusedWith(409, 'LeaseAlreadyPresent'));
  await client.upload('y', 1, { conditions: { leaseId: leaseId! } });
  assert.deepEqual((await client.getProperties()).leaseState, 'leased');
  const changed = randomUUID();
  await lease.changeLease(changed);
  await lease.renewLease();
  await lease.breakLease(0);
  assert.deepEqual((await client.getProperties()).leaseState, 'broken');
  await client.upload('z', 1);
  await assert.rejects(lease.renewLease(), { statusCode: 409 });
  const again = client.getBlobLeaseClient();
  await again.acquireLease(15);
  await again.releaseLease();
  await client.delete();
  const leased = account.service.getContainerClient('leased');
  await leased.create();
  const held = leased.getBlobLeaseClient();
  await held.acquireLease(60);
  await assert.rejects(leased.delete(), refusedWith(412, 'LeaseIdMissing'));
  await leased.delete({ conditions: { leaseId: held.leaseId } });
});

test('copies are blobs of their own', async () => {
  const source = container.getBlockBlobClient('source');
  const bytes = randomBytes(300_000);
  await source.uploadData(bytes, { maxSingleShotSize: 0, blockSize: 100_000, metadata: { from: 'source' } });
  const copy = container.getBlockBlobClient('copies/1');
  const poller = await copy.beginCopyFromURL(source.url);
  assert.equal((await poller.pollUntilDone()).copyStatus, 'success');
  assert.equal((await copy.syncCopyFromURL(source.url)).copyStatus, 'success');
  const put = container.getBlockBlobClient('copies/2');
  await put.syncUploadFromURL(source.url, { metadata: { from: 'put' } });
  const parts = container.getBlockBlobClient('copies/3');
  await parts.stageBlockFromURL('YQ==', source.url, 100_000, 150_000);
  await parts.commitBlockList(['YQ==']);
  // Another account's need a signature of its own.
  const theirs = other.service.getContainerClient('theirs');
  await theirs.create();
  const across = theirs.getBlockBlobClient('copy');
  await assert.rejects(across.syncCopyFromURL(source.url), { statusCode: 401 });
  await across.syncCopyFromURL(`${source.url}${account.sas}`);
  await source.delete();
  for (const name of ['copies/1', 'copies/2']) assert.ok((await content(name)).equals(bytes));
  assert.ok((await across.downloadToBuffer()).equals(bytes));
  assert.ok((await content('copies/3')).equals(bytes.subarray(100_000, 250_000)));
  assert.deepEqual((await copy.getProperties()).metadata, { from: 'source' });
  assert.deepEqual((await put.getProperties()).metadata, { from: 'put' });
  const shown = await copy.getProperties();
  assert.deepEqual([shown.copyStatus, shown.copySource], ['success', source.url]);
  await assert.rejects(copy.syncCopyFromURL(source.url), { statusCode: 404 });
  for (const outside of ['https://example.org/a/b', 'http://169.254.169.254/a/b/c', 'file:///etc/passwd'])
    await assert.rejects(copy.syncCopyFromURL(outside), { statusCode: 400 });
  for (const name of ['copies/1', 'copies/2', 'copies/3']) await container.deleteBlob(name);
  await across.delete();
  await nothingLeftOver();
});

test('two who write one blob at once: one of them whole', async () => {
  const contents = Array.from({ length: 12 }, (_, index) => Buffer.alloc(200_000, String.fromCharCode(97 + index)));
  const client = container.getBlockBlobClient('contested');
  await Promise.all(contents.map(bytes => client.upload(bytes, bytes.length)));
  const found = await content('contested');
  assert.ok(contents.some(bytes => bytes.equals(found)));
  const only = container.getBlockBlobClient('once');
  const made = await Promise.allSettled(
    contents.map(bytes => only.upload(bytes, bytes.length, { conditions: { ifNoneMatch: '*' } })),
  );
  assert.equal(made.filter(({ status }) => status === 'fulfilled').length, 1);
  await client.delete();
  await only.delete();
  await nothingLeftOver();
});

test('what is read while it is deleted is read to its end', async () => {
  const bytes = randomBytes(24 * 1024 * 1024);
  const client = container.getBlockBlobClient('fleeting');
  await client.uploadData(bytes, { maxSingleShotSize: 0, blockSize: 4 * 1024 * 1024 });
  const { readableStreamBody } = await client.download();
  const stream = readableStreamBody!;
  const chunks: Buffer[] = [];
  const iterator = stream[Symbol.asyncIterator]();
  chunks.push(Buffer.from((await iterator.next()).value as Uint8Array));
  await client.delete();
  for (let next = await iterator.next(); !next.done; next = await iterator.next())
    chunks.push(Buffer.from(next.value as Uint8Array));
  assert.ok(Buffer.concat(chunks).equals(bytes));
  await nothingLeftOver();
});

test('an upload that is broken off leaves nothing', async () => {
  const head = [
    `PUT /${account.name}/tests/broken${account.sas} HTTP/1.1`,
    `Host: ${new URL(server.origin).host}`,
    'x-ms-version: 2021-12-02',
    'x-ms-blob-type: BlockBlob',
    'Content-Length: 1000000',
    '',
    '',
  ].join('\r\n');
  const door = await server.door({ patience: 400 });
  // Half of it, and then silence.
  const answer = await door.raw(Buffer.concat([Buffer.from(head), Buffer.alloc(500_000)]));
  assert.match(answer, /^HTTP\/1\.1 408 /);
  assert.equal((await send('HEAD', '/tests/broken')).status, 404);
  await nothingLeftOver();
});

test('a client that leaves its answer unread is cut off; one that pauses is not', async () => {
  const size = 32 * 1024 * 1024;
  await account.service.getContainerClient('tests').getBlockBlobClient('long').uploadData(Buffer.alloc(size, 'r'));
  const door = await server.door({ patience: 100 });
  // Twice the time that one may take, at least.
  const read = (pauses: readonly number[]) =>
    new Promise<number>((resolve, reject) => {
      const url = `${door.origin}/${account.name}/tests/long${account.sas}`;
      const request = https.get(url, { ca: server.ca, agent: false }, async answer => {
        let arrived = 0;
        answer.once('error', () => resolve(arrived));
        answer.once('end', () => resolve(arrived));
        answer.on('data', chunk => {
          arrived += chunk.length;
          if (arrived < size) answer.pause();
        });
        for (const pause of pauses) {
          await sleep(pause);
          answer.resume();
        }
        answer.removeAllListeners('data').on('data', chunk => {
          arrived += chunk.length;
        });
        answer.resume();
      });
      request.once('error', reject);
    });
  const [stalled, pausing] = await Promise.all([read([3000]), read([20, 20, 20])]);
  assert.ok(stalled < size);
  assert.equal(pausing, size);
});

test('an upload may take as long as it comes along', async () => {
  const door = await server.door({ patience: 500 });
  const chunk = Buffer.alloc(32 * 1024, 'x');
  const chunks = 12;
  const headers = {
    'x-ms-version': '2021-12-02',
    'x-ms-blob-type': 'BlockBlob',
    'content-length': chunks * chunk.length,
  };
  const url = `${door.origin}/${account.name}/tests/slow${account.sas}`;
  const status = await new Promise((resolve, reject) => {
    const request = https.request(url, { method: 'PUT', ca: server.ca, headers }, answer => {
      answer.resume();
      resolve(answer.statusCode);
    });
    request.once('error', reject);
    // Longer than the door's patience in all, and never that long without a byte.
    const next = (left: number) => {
      if (left === 0) request.end();
      else request.write(chunk, () => setTimeout(next, 100, left - 1));
    };
    next(chunks);
  });
  assert.equal(status, 201);
  assert.equal((await content('slow')).length, chunks * chunk.length);
});

test('the service and its account have properties', async () => {
  const { service } = account;
  const properties = await service.getProperties();
  assert.equal(properties.deleteRetentionPolicy?.enabled, false);
  await service.setProperties({
    cors: [{ allowedOrigins: '*', allowedMethods: 'GET', allowedHeaders: '', exposedHeaders: '', maxAgeInSeconds: 5 }],
  });
  assert.equal((await service.getProperties()).cors?.[0]?.maxAgeInSeconds, 5);
  await assert.rejects(
    service.setProperties({ deleteRetentionPolicy: { enabled: true, days: 3 } }),
    refusedWith(400, 'FeatureNotSupported'),
  );
  assert.equal((await service.getAccountInfo()).accountKind, 'StorageV2');
  const policy = { permissions: 'r', startsOn: new Date(0), expiresOn: new Date(2e12) };
  await container.setAccessPolicy(undefined, [{ id: 'readers', accessPolicy: policy }]);
  const read = await container.getAccessPolicy();
  assert.equal(read.signedIdentifiers[0]?.id, 'readers');
  assert.equal(read.signedIdentifiers[0]?.accessPolicy.permissions, 'r');
  await assert.rejects(container.setAccessPolicy('blob'), refusedWith(409, 'PublicAccessNotPermitted'));
});

test('nothing was the server’s fault', () => assert.deepEqual(server.errors, []));
