import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, request } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { openHome } from '../home.ts';
import { openTls } from './certificates.ts';
import { watchConnections } from './connections.ts';

test('the end of a server waits for requests, and for no silent client', async t => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-connections-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const { key, cert, caPath } = await openTls(await openHome({ home: root, env: {} }), { hosts: [] });
  const ca = await readFile(caPath, 'utf8');
  const arrived = Promise.withResolvers<() => void>();
  const server = createServer({ key, cert, handshakeTimeout: 600_000 }, (_, response) =>
    arrived.resolve(() => response.end('done')),
  );
  const connections = watchConnections(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const silent = connect(port, '127.0.0.1');
  const mute = connectTls({ host: '127.0.0.1', port, ca });
  await Promise.all([once(silent, 'connect'), once(mute, 'secureConnect')]);
  const answered = new Promise<string>((resolve, reject) =>
    request({ host: '127.0.0.1', port, ca, agent: false }, async answer => resolve((await answer.toArray()).join('')))
      .on('error', reject)
      .end(),
  );
  const answer = await arrived.promise;
  const gone = Promise.all([once(silent, 'close'), once(mute, 'close')]);
  const closed = once(server, 'close');
  server.close();
  const stop = connections.end();
  // They go while the request is still under way.
  await gone;
  answer();
  assert.equal(await answered, 'done');
  await closed;
  stop();
});
