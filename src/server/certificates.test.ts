import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Home, openHome } from '../home.ts';
import { run } from '../processes/process.ts';
import { openTls } from './certificates.ts';

describe('certificates', () => {
  let root: string;
  let home: Home;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-tls-'));
    home = await openHome({ home: root });
  });
  after(() => rm(root, { recursive: true, force: true }));

  it('are made once, the keys for their owner only', async () => {
    const first = await openTls(home, { hosts: ['kiln.example.org', '192.0.2.7'] });
    const second = await openTls(home, { hosts: ['kiln.example.org'] });
    assert.equal(second.cert, first.cert);
    assert.equal(second.key, first.key);
    for (const name of ['authority.pem', 'server.pem'])
      assert.equal((await stat(join(root, 'tls', name))).mode & 0o777, 0o600, name);
    assert.equal((await stat(first.caPath)).mode & 0o777, 0o644);
    assert.doesNotMatch(await readFile(first.caPath, 'utf8'), /PRIVATE/);
    const certificate = new X509Certificate(first.cert);
    for (const name of [
      ...['localhost', 'account.blob.localhost', 'account.blob.core.localhost'],
      ...['kiln.example.org', 'account.blob.kiln.example.org', 'account.blob.core.kiln.example.org'],
    ])
      assert.ok(certificate.checkHost(name), name);
    for (const address of ['127.0.0.1', '::1', '192.0.2.7']) assert.ok(certificate.checkIP(address), address);
    assert.ok(certificate.subjectAltName!.includes(`DNS:${hostname().toLowerCase()}`));
    assert.equal(certificate.checkHost('example.org'), undefined);
  });

  it('pass the strict checks of OpenSSL', async () => {
    const { caPath } = await openTls(home, { hosts: [] });
    const server = join(root, 'tls', 'server.pem');
    const verify = ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', caPath];
    const { stdout } = await run('openssl', [...verify, '-verify_hostname', 'x.blob.localhost', server]);
    assert.match(stdout, /: OK/);
    await run('openssl', [...verify, '-verify_ip', '127.0.0.1', server]);
    await assert.rejects(run('openssl', [...verify, '-verify_hostname', 'example.org', server]));
  });

  it('are trusted by a client that has the authority, and by no other', async () => {
    const { key, cert, caPath } = await openTls(home, { hosts: [] });
    const ca = await readFile(caPath, 'utf8');
    const server = createServer({ key, cert }, (_, response) => response.end('here'));
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const get = (trusted?: string) =>
      new Promise((resolve, reject) => {
        const options = { host: '127.0.0.1', port, agent: false, ...(trusted && { ca: trusted }) } as const;
        request(options, response => resolve(response.resume().statusCode))
          .on('error', reject)
          .end();
      });
    try {
      assert.equal(await get(ca), 200);
      await assert.rejects(get(), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
    } finally {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    }
  });

  it('are renewed for a new name, keeping the old ones and the authority', async () => {
    const old = await openTls(home, { hosts: ['kiln.example.org'] });
    const ca = await readFile(old.caPath, 'utf8');
    const { cert } = await openTls(home, { hosts: ['other.example.org'] });
    assert.notEqual(cert, old.cert);
    const certificate = new X509Certificate(cert);
    assert.ok(certificate.checkHost('other.example.org'));
    assert.ok(certificate.checkHost('kiln.example.org'));
    assert.equal(await readFile(old.caPath, 'utf8'), ca);
  });

  it('are renewed before they end, and when they are damaged', async () => {
    const old = await openTls(home, { hosts: [] });
    const later = new Date(Date.now() + 700 * 24 * 3600 * 1000);
    const renewed = await openTls(home, { hosts: [], now: later });
    assert.notEqual(renewed.cert, old.cert);
    assert.ok(new X509Certificate(renewed.cert).validToDate > new X509Certificate(old.cert).validToDate);
    const muchLater = new Date(Date.now() + 3600 * 24 * 3600 * 1000);
    const another = await openTls(home, { hosts: [], now: muchLater });
    const authority = new X509Certificate(await readFile(another.caPath, 'utf8'));
    assert.ok(new X509Certificate(another.cert).verify(authority.publicKey));
    assert.ok(authority.validToDate > muchLater);
    await writeFile(join(root, 'tls', 'server.pem'), 'garbage');
    const mended = await openTls(home, { hosts: [], now: muchLater });
    assert.ok(new X509Certificate(mended.cert).verify(authority.publicKey));
    await writeFile(join(root, 'tls', 'authority.pem'), 'garbage');
    await assert.rejects(openTls(home, { hosts: [] }), { code: 'StateUnwritable' });
  });
});
