import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { KilnError } from '../../arm/errors.ts';
import { download, publicUrl } from './download.ts';

const BODY = Buffer.alloc(300_000, 'abcdefghijk');
const SHA256 = createHash('sha256').update(BODY).digest('hex');
const SHA512 = createHash('sha512').update(BODY).digest('hex');

let directory: string;
let server: Server;
let base: string;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let asked: IncomingMessage[];

before(async () => {
  server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  asked = [];
  directory = await mkdtemp(join(tmpdir(), 'kiln-download-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const to = () => join(directory, 'file');
const whole = (_: IncomingMessage, response: ServerResponse) => void response.setHeader('etag', '"one"').end(BODY);
/** Serves ranges, as the sites of cloud images do. */
const ranges = (request: IncomingMessage, response: ServerResponse) => {
  const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.setHeader('etag', '"one"');
  if (!start || request.headers['if-range'] !== '"one"') return void response.end(BODY);
  response.writeHead(206, { 'content-range': `bytes ${start}-${BODY.length - 1}/${BODY.length}` });
  response.end(BODY.subarray(start));
};
const fails = async (
  code: string,
  message: RegExp,
  url: string,
  options: Partial<Parameters<typeof download>[1]> = {},
) => {
  await assert.rejects(download(url, { to: to(), keepPart: false, ...options }), (error: KilnError) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
  assert.deepEqual(await readdir(directory), []);
};

test('a file arrives, verified, with progress', async () => {
  answer = whole;
  const seen: (number | undefined)[] = [];
  const got = await download(`${base}/disk`, {
    to: to(),
    sha256: SHA256.toUpperCase(),
    sha512: SHA512,
    onProgress: (done, total) => seen.push(done, total),
  });
  assert.deepEqual({ ...got }, { path: to(), sha256: SHA256, size: BODY.length });
  assert.deepEqual(await readFile(to()), BODY);
  assert.deepEqual(seen.slice(-2), [BODY.length, BODY.length]);
  assert.deepEqual(await readdir(directory), ['file']);
});

test('a broken connection is resumed where it broke off', async () => {
  let broken = 0;
  answer = (request, response) => {
    if (broken++ > 0) return ranges(request, response);
    response.writeHead(200, { 'content-length': BODY.length, etag: '"one"' });
    response.write(BODY.subarray(0, 100_000), () => setTimeout(() => response.destroy(), 50));
  };
  assert.equal((await download(base, { to: to() })).sha256, SHA256);
  assert.equal(asked.length, 2);
  assert.match(asked[1]!.headers.range!, /^bytes=[1-9]\d*-$/);
});

test('a later call goes on with the part, unless the file has changed', async () => {
  for (const etag of ['"one"', '"old"']) {
    await writeFile(`${to()}.part`, BODY.subarray(0, 1000));
    await writeFile(`${to()}.part.json`, JSON.stringify({ url: `${base}/`, validator: etag }));
    answer = ranges;
    assert.equal((await download(base, { to: to(), sha256: SHA256 })).size, BODY.length);
    assert.equal(asked.at(-1)!.headers.range, 'bytes=1000-');
  }
});

test('a part of unknown origin is thrown away', async () => {
  await writeFile(`${to()}.part`, 'from somewhere else');
  answer = ranges;
  assert.equal((await download(base, { to: to() })).sha256, SHA256);
  assert.equal(asked[0]!.headers.range, undefined);
});

test('a wrong checksum leaves nothing, and is not retried', async () => {
  answer = whole;
  await fails('ChecksumMismatch', new RegExp(`SHA256 is ${SHA256}`), `${base}/x?sig=secret`, {
    sha256: '0'.repeat(64),
    keepPart: true,
  });
  assert.equal(asked.length, 1);
});

test('404 is told at once, without credentials and query', async () => {
  answer = (_, response) => void response.writeHead(404).end();
  const url = `${base.replace('//', '//user:pass@')}/scripts/a.sh?sv=1&sig=secret`;
  await fails('DownloadFailed', /^http:\/\/127\.0\.0\.1:\d+\/scripts\/a\.sh cannot be fetched: .*404 Not Found/, url);
  assert.equal(asked[0]!.headers.authorization, `Basic ${Buffer.from('user:pass').toString('base64')}`);
  assert.equal(publicUrl(url), `${base}/scripts/a.sh`);
});

test('a server that never answers, or stops in the middle', async () => {
  answer = () => {};
  await fails('DownloadFailed', /sent nothing for 0\.15 s/, base, { idleTimeout: 150 });
  answer = (_, response) => void response.writeHead(200, { 'content-length': 100 }).write('a bit');
  await fails('DownloadFailed', /sent nothing for 0\.15 s/, base, { idleTimeout: 150 });
});

test('a server in trouble is asked again', async () => {
  let first = true;
  answer = (request, response) => {
    if (!first) return whole(request, response);
    first = false;
    response.writeHead(503).end();
  };
  assert.equal((await download(base, { to: to() })).sha256, SHA256);
});

test('too large, by its own word or by its bytes', async () => {
  answer = whole;
  await fails('DownloadFailed', /larger than 1000 bytes/, base, { maxBytes: 1000 });
  answer = (_, response) => {
    response.write(BODY);
    response.end(BODY);
  };
  await fails('DownloadFailed', /larger than 400000 bytes/, base, { maxBytes: 400_000 });
});

test('redirects: followed, but not for ever and not to other protocols', async () => {
  answer = (request, response) => {
    if (request.url === '/real') return whole(request, response);
    response
      .writeHead(302, {
        location: request.url === '/once' ? '/real' : request.url === '/file' ? 'file:///etc/passwd' : '/again',
      })
      .end();
  };
  assert.equal((await download(`${base}/once`, { to: to() })).sha256, SHA256);
  await rm(to());
  await fails('DownloadFailed', /redirects more than 5 times/, `${base}/again`);
  await fails('DownloadFailed', /from http: to file:/, `${base}/file`, { allowFile: true });
});

test('file: URLs only where allowed; other protocols never', async () => {
  const source = await mkdtemp(join(tmpdir(), 'kiln-download-source-'));
  try {
    await writeFile(join(source, 'a'), BODY);
    const url = pathToFileURL(join(source, 'a')).href;
    await fails('DownloadFailed', /file: URLs are not allowed/, url);
    await fails('DownloadFailed', /no such file/, `${url}x`, { allowFile: true });
    await fails('DownloadFailed', /larger than 10 bytes/, url, { allowFile: true, maxBytes: 10 });
    await fails('DownloadFailed', /ftp: URLs/, 'ftp://127.0.0.1/x');
    await fails('DownloadFailed', /not a URL/, 'nonsense');
    assert.equal((await download(url, { to: to(), allowFile: true })).sha256, SHA256);
  } finally {
    await rm(source, { recursive: true });
  }
});

test('canceling ends it and keeps the part for the next call', async () => {
  const controller = new AbortController();
  answer = (_, response) => {
    response.writeHead(200, { 'content-length': BODY.length, etag: '"one"' });
    response.write(BODY.subarray(0, 5000));
  };
  const downloading = download(base, {
    to: to(),
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  });
  await assert.rejects(downloading, /enough/);
  assert.deepEqual((await readdir(directory)).sort(), ['file.part', 'file.part.json']);
});
