import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { Qmp, type QmpEvent } from './qmp.ts';

const GREETING = '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}\r\n';

/** A peer on a Unix socket that answers each command with the lines that `answer` gives. */
async function peer(context: TestContext, answer: (command: { execute: string; id: number }) => string | undefined) {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'kiln-qmp-'));
  const server = net.createServer(socket => {
    socket.setEncoding('utf8').write(GREETING);
    let rest = '';
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        const reply = answer(JSON.parse(line));
        if (reply === undefined) socket.destroy();
        else socket.write(reply);
      }
    });
    socket.on('error', () => {});
  });
  server.listen(path.join(directory, 'socket'));
  await once(server, 'listening');
  const client = net.connect(path.join(directory, 'socket'));
  context.after(async () => {
    client.destroy();
    server.close();
    await rm(directory, { recursive: true });
  });
  return client;
}

const ok = (id: number, value: unknown = {}) => `${JSON.stringify({ return: value, id })}\r\n`;

test('greets, negotiates, and matches answers to commands by number', async context => {
  const seen: string[] = [];
  let held = '';
  const stream = await peer(context, ({ execute, id }) => {
    seen.push(execute);
    if (execute === 'slow') {
      held = ok(id, 'slow');
      return ' ';
    }
    return execute === 'fast' ? ok(id, 'fast') + held : ok(id);
  });
  const qmp = new Qmp(stream);
  await qmp.open();
  const answers = await Promise.all([qmp.execute('slow'), qmp.execute('fast')]);
  assert.deepEqual(answers, ['slow', 'fast']);
  assert.deepEqual(seen, ['qmp_capabilities', 'slow', 'fast']);
});

test('events come in order, also when a line arrives in pieces', async context => {
  const events: QmpEvent[] = [];
  const stream = await peer(context, ({ id }) => ok(id));
  const qmp = new Qmp(stream, event => events.push(event));
  await qmp.open();
  stream.emit('data', '{"event": "RESET", "data": {"gue');
  stream.emit('data', 'st": true}}\n{"event": "SHUTDOWN"}\n');
  assert.deepEqual(events, [{ event: 'RESET', data: { guest: true } }, { event: 'SHUTDOWN' }]);
});

test('a refusal carries the words of QEMU', async context => {
  const stream = await peer(context, ({ execute, id }) =>
    execute === 'qmp_capabilities'
      ? ok(id)
      : `${JSON.stringify({ error: { class: 'GenericError', desc: 'Device not found' }, id })}\n`,
  );
  const qmp = new Qmp(stream);
  await qmp.open();
  await assert.rejects(qmp.execute('device_del'), /refused device_del: Device not found/);
});

test('when QEMU goes, what waits is rejected and so is what comes later', async context => {
  const stream = await peer(context, ({ execute, id }) => (execute === 'quit' ? undefined : ok(id)));
  const qmp = new Qmp(stream);
  await qmp.open();
  await assert.rejects(qmp.execute('quit'));
  await assert.rejects(qmp.execute('query-status'));
});

test('anything else than JSON ends the session', async context => {
  const stream = await peer(context, () => 'segfault\n');
  await assert.rejects(new Qmp(stream).open(), /something else than JSON: segfault/);
});
