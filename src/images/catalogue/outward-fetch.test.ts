import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import os, { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { KilnError } from '../../arm/errors.ts';
import { download } from './download.ts';
import { isInnerAddress } from './outward-fetch.ts';

let server: Server;
let port: number;
let directory: string;
let asked = 0;
/** An address of this host that others can reach, too. */
const outer = Object.values(networkInterfaces())
  .flat()
  .find(one => one?.family === 'IPv4' && !one.internal && !isInnerAddress(one.address))?.address;

before(async () => {
  server = createServer((request, response) => {
    asked += 1;
    if (request.url === '/inward') response.writeHead(302, { location: `http://127.0.0.1:${port}/file` }).end();
    else if (request.url === '/named') response.writeHead(302, { location: `http://localhost:${port}/file` }).end();
    else if (request.url === '/cut')
      response.writeHead(200, { 'content-length': 10 }).write('half', () => response.destroy());
    else response.end('the bytes');
  });
  await new Promise<void>(resolve => server.listen(0, '0.0.0.0', resolve));
  port = (server.address() as AddressInfo).port;
  directory = await mkdtemp(join(tmpdir(), 'kiln-outward-'));
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true, force: true });
});

const fetchIt = (url: string) => download(url, { to: join(directory, 'file'), allowLocal: false, keepPart: false });

test('addresses of the host itself and of its links, in all their spellings', () => {
  for (const inner of [
    ...['127.0.0.1', '127.8.9.10', '0.0.0.0', '0.1.2.3', '169.254.169.254', '224.0.0.1', '239.1.1.1'],
    ...['255.255.255.255', '::', '::1', '::127.0.0.1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:a9fe:a9fe'],
    ...['fe80::1', 'fe80::1%eth0', 'febf::1', 'ff02::1', '64:ff9b::7f00:1', '0:0:0:0:0:ffff:0:0'],
    ...['168.63.129.16', '100.100.100.200', 'fd00:ec2::254', 'fd00:0ec2:0::0:254', '::ffff:168.63.129.16'],
    ...['2002:7f00:1::', '2002:a9fe:a9fe::1', '2002:a83f:8110:1::2', '::ffff:0:7f00:1', '::ffff:0:169.254.169.254'],
    // Behind prefixes of 48, 56, 64 and 96 bits.
    ...['64:ff9b:1:7f00:0:100::', '64:ff9b:1:a9:fe:a9fe::', '64:ff9b:1:5:a9:fea9:fe00:0', '64:ff9b:1::169.254.169.254'],
  ])
    assert.equal(isInnerAddress(inner), true, inner);
  for (const outward of [
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '8.8.8.8',
    '2001:db8::1',
    'fd00::1',
    '::ffff:10.0.0.1',
    '168.63.129.17',
    'fd00:ec2::253',
    '2002:808:808::1',
    '64:ff9b::808:808',
    '64:ff9b:1::808:808',
    '64:ff9b:1:808:8:800::',
    '64:ff9b:1:5:8:808:800:0',
    'example.org',
  ])
    assert.equal(isInnerAddress(outward), false, outward);
});

test('the loopback is not fetched from, by whatever name', async () => {
  const before = asked;
  for (const host of ['127.0.0.1', 'localhost', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '0.0.0.0'])
    await assert.rejects(fetchIt(`http://${host}:${port}/file`), (error: KilnError) => {
      assert.equal(error.code, 'DownloadFailed', host);
      assert.match(error.hint ?? '', /kiln serve --allow-local-downloads/);
      return true;
    });
  assert.equal(asked, before);
});

test('no other address of the host is fetched from either, as it is or inside another one', {
  skip: !outer && 'no network',
}, async () => {
  const before = asked;
  for (const host of [outer!, `[::ffff:${outer}]`, `[64:ff9b::${outer}]`])
    await assert.rejects(fetchIt(`http://${host}:${port}/file`), {
      code: 'DownloadFailed',
      message: /of this host itself/,
    });
  assert.equal(asked, before);
});

test('addresses of others are fetched from; a redirect inward is refused', {
  skip: !outer && 'no network',
}, async ({ mock }) => {
  // Nobody else is there in a test: the host does not know its own address.
  mock.method(os, 'networkInterfaces', () => ({}));
  await fetchIt(`http://${outer}:${port}/file`);
  assert.equal(await readFile(join(directory, 'file'), 'utf8'), 'the bytes');
  for (const path of ['inward', 'named'])
    await assert.rejects(fetchIt(`http://${outer}:${port}/${path}`), {
      code: 'DownloadFailed',
      message: /of this host itself/,
    });
  const before = asked;
  await assert.rejects(fetchIt(`http://${outer}:${port}/cut`), /tried 4 times/);
  assert.equal(asked - before, 4);
});
