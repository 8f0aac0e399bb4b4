/** Requests that @azure/storage-blob signs, judged by what is signed here. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, it } from 'node:test';
import { BlobServiceClient, newPipeline, StorageSharedKeyCredential } from '@azure/storage-blob';
import fc from 'fast-check';
import { type RequestParts, splitTarget } from './request-parts.ts';
import { readSharedKey, sign, stringsToSign } from './shared-key.ts';

const ACCOUNT = 'kilnaccount1';
const KEY = Buffer.alloc(64, 7);

interface Captured extends RequestParts {
  readonly authorization: string;
}

/** What the SDK would have sent, without sending it. */
async function captured(url: string, call: (service: BlobServiceClient) => Promise<unknown>): Promise<Captured> {
  let sent: Captured | undefined;
  const pipeline = newPipeline(new StorageSharedKeyCredential(ACCOUNT, KEY.toString('base64')), {
    retryOptions: { maxTries: 1 },
    httpClient: {
      async sendRequest(request) {
        const headers: Record<string, string> = {};
        for (const { name, value } of request.headers.headersArray()) headers[name.toLowerCase()] = value;
        const { authorization = '' } = headers;
        sent = { method: request.method, headers, ...splitTarget(request.url), authorization };
        throw new Error('captured');
      },
    },
  });
  await assert.rejects(call(new BlobServiceClient(url, pipeline)), /captured/);
  return sent!;
}

const matches = (request: Captured, key = KEY): boolean => {
  const given = readSharedKey(request.authorization);
  return (
    given !== undefined &&
    given.account === ACCOUNT &&
    stringsToSign(request, given.scheme, given.account).some(text => sign(key, text, 'latin1') === given.signature)
  );
};

const CALLS: Readonly<Record<string, (service: BlobServiceClient) => Promise<unknown>>> = {
  'list containers': service => service.listContainers({ prefix: 'a b', includeMetadata: true }).byPage().next(),
  'create container': service => service.getContainerClient('box').create({ metadata: { a: '1', Zed: 'x  y' } }),
  upload: service =>
    service
      .getContainerClient('box')
      .getBlockBlobClient('folder/ä name+%.txt')
      .upload('text', 4, {
        metadata: { aa: '1', a_b: '2', aB: '3' },
        tags: { one: 'two words' },
        blobHTTPHeaders: { blobContentType: 'text/plain', blobContentDisposition: 'inline' },
        conditions: { ifNoneMatch: '*' },
      }),
  'upload of nothing': service => service.getContainerClient('box').getBlockBlobClient('empty').upload('', 0),
  'a range': service => service.getContainerClient('box').getBlobClient('b').download(10, 20),
  'a block': service => service.getContainerClient('box').getBlockBlobClient('b').stageBlock('AAAA', 'bytes', 5),
  'a copy': service =>
    service.getContainerClient('box').getBlobClient('b').syncCopyFromURL('https://example.org/a?b=c&d=%2F'),
  delete: service =>
    service
      .getContainerClient('box')
      .getBlobClient('b')
      .delete({ conditions: { ifModifiedSince: new Date(0), leaseId: 'lease' } }),
};

describe('shared key', () => {
  for (const [name, url] of [
    ['by path', `https://127.0.0.1:8443/${ACCOUNT}`],
    ['by host', `https://${ACCOUNT}.blob.localhost:8443`],
  ] as const)
    for (const [what, call] of Object.entries(CALLS))
      it(`signs as the SDK does: ${what}, ${name}`, async () => {
        const request = await captured(url, call);
        assert.ok(matches(request), `${stringsToSign(request, 'SharedKey', ACCOUNT)[0]}`);
        assert.ok(!matches(request, Buffer.alloc(64, 8)));
      });

  it('doubles the account where the path has it', async () => {
    const [byPath] = stringsToSign(await captured(`https://h/${ACCOUNT}`, CALLS.delete!), 'SharedKey', ACCOUNT);
    const [byHost] = stringsToSign(await captured('https://h', CALLS.delete!), 'SharedKey', ACCOUNT);
    assert.match(byPath!, new RegExp(`/${ACCOUNT}/${ACCOUNT}/box/b$`));
    assert.match(byHost!, new RegExp(`/${ACCOUNT}/box/b$`));
  });

  it('refuses when any signed part is another one', async () => {
    const request = await captured(`https://h/${ACCOUNT}`, CALLS.upload!);
    const signed = Object.keys(request.headers).filter(
      name => name.startsWith('x-ms-') || ['content-length', 'content-type', 'if-none-match'].includes(name),
    );
    assert.ok(signed.length > 8);
    fc.assert(
      fc.property(fc.constantFrom(...signed), fc.string({ minLength: 1 }), (name, value) => {
        fc.pre(value.trim() !== '' && value.trim() !== request.headers[name]);
        fc.pre(!(name === 'content-length' && value === '0'));
        assert.ok(!matches({ ...request, headers: { ...request.headers, [name]: value } }), name);
      }),
    );
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z]{1,8}$/), fc.string(), (name, value) => {
        assert.ok(!matches({ ...request, headers: { ...request.headers, [`x-ms-${name}`]: value } }));
        assert.ok(!matches({ ...request, query: [...request.query, [name, value]] }));
        assert.ok(!matches({ ...request, path: `${request.path}${name}` }));
      }),
    );
    for (const method of ['GET', 'DELETE']) assert.ok(!matches({ ...request, method }));
  });

  it('signs the short form, with the component alone of the query', () => {
    const request: RequestParts = {
      method: 'put',
      headers: {
        'content-md5': 'm',
        'content-type': 't',
        'x-ms-date': 'd',
        'x-ms-b': ' 2 ',
        date: 'other',
        'if-match': 'x',
      },
      ...splitTarget('/acct/box?restype=container&comp=metadata'),
    };
    assert.deepEqual(stringsToSign(request, 'SharedKeyLite', 'acct'), [
      'PUT\nm\nt\n\nx-ms-b:2\nx-ms-date:d\n/acct/acct/box?comp=metadata',
    ]);
  });

  it('keeps the length of nothing for old versions', () => {
    const request = (version: string): RequestParts => ({
      method: 'PUT',
      headers: { 'content-length': '0', 'x-ms-version': version },
      ...splitTarget('/'),
    });
    assert.match(stringsToSign(request('2014-02-14'), 'SharedKey', 'a')[0]!, /^PUT\n\n\n0\n/);
    assert.match(stringsToSign(request('2015-02-21'), 'SharedKey', 'a')[0]!, /^PUT\n\n\n\n/);
  });

  it('reads the header or nothing', () => {
    const signature = createHmac('sha256', KEY).update('').digest('base64');
    assert.deepEqual(readSharedKey(`SharedKey ${ACCOUNT}:${signature}`), {
      ...{ scheme: 'SharedKey', account: ACCOUNT },
      signature,
    });
    assert.equal(readSharedKey(`sharedkeylite ${ACCOUNT}:${signature}`)?.scheme, 'SharedKeyLite');
    for (const bad of ['', 'SharedKey', 'SharedKey a:b', `SharedKey ${ACCOUNT}`, `Bearer ${signature}`, 'SharedKey :'])
      assert.equal(readSharedKey(bad), undefined, bad);
    fc.assert(fc.property(fc.string(), text => assert.equal(readSharedKey(text), undefined)));
  });
});
