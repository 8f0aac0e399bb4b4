import assert from 'node:assert/strict';
import type net from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import ssh2, { type Session } from 'ssh2';
import { ConnectionLost } from './command-channel.ts';
import { newIdentity } from './identity.ts';
import { connect, type SshConnection } from './ssh.ts';

const LAST_OUTPUT_MS = 50;

/** A guest's server, as it pleases. */
async function connected(t: TestContext, onSession: (accept: () => Session) => void): Promise<SshConnection> {
  const identity = newIdentity();
  const clients: ssh2.Connection[] = [];
  const server = new ssh2.Server({ hostKeys: [identity.host.privateKey] }, client => {
    clients.push(client);
    client.on('authentication', context => context.accept());
    client.on('error', () => {});
    client.on('session', onSession);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  let connection: SshConnection | undefined;
  // Before anything can fail: a server left open keeps the test process, and so the whole run, from ending.
  t.after(() => {
    connection?.close();
    for (const client of clients) client.end();
    server.close();
  });
  const { port } = server.address() as net.AddressInfo;
  connection = await connect(
    { address: '127.0.0.1', port, identity },
    { signal: t.signal, handshakeMs: 10_000, lastOutputMs: LAST_OUTPUT_MS },
  );
  return connection;
}

test('an abort is obeyed while the guest does not open a channel', async t => {
  const connection = await connected(t, () => {});
  const reason = new Error('deadline');
  const controller = new AbortController();
  const asked = connection.exec('true', { signal: controller.signal });
  await sleep(20);
  controller.abort(reason);
  await assert.rejects(asked, error => error === reason);
  assert.ok(connection.closed);
});

test('a connection that ends while a channel is being opened is told as lost', async t => {
  const connection = await connected(t, () => {});
  const asked = connection.exec('true');
  connection.close();
  await assert.rejects(asked, ConnectionLost);
});

test('a command has ended when it exits, whatever holds its output', async t => {
  const connection = await connected(t, accept =>
    accept().on('exec', (accept, _reject, { command }) => {
      const channel = accept();
      channel.write('before\n');
      channel.exit(3);
      channel.write('after\n');
      if (command === 'endless') {
        const timer = setInterval(() => channel.write('still\n'), 5).unref();
        channel.on('close', () => clearInterval(timer));
      }
      if (command === 'closes') channel.end();
    }),
  );
  for (const command of ['holds', 'endless', 'closes']) {
    let [stdout, stderr] = ['', ''];
    const result = await connection.exec(command, {
      output: (chunk, stream) => {
        if (stream === 'stdout') stdout += chunk.toString();
        else stderr += chunk.toString();
      },
    });
    assert.deepEqual(result, { exitCode: 3 });
    assert.ok(stdout.startsWith('before\nafter\n'), command);
    assert.equal(/left running/.test(stderr), command !== 'closes', command);
  }
});
