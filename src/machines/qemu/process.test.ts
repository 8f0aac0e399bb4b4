import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { QEMU } from './accelerator.ts';
import { QemuProcess } from './process.ts';
import { alive, ownRecord, parseRecord, readRecord, startTimeOf, writeRecord } from './process-record.ts';
import { recordName, sweepMachines } from './sweep.ts';

/** In QEMU's place: a program that says where it was, and stays. */
const STAYS = '#!/bin/sh\necho "[ 0.0] starting"\nexec sleep 1000\n';

let directory: string;
const { PATH } = process.env;
before(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'kiln-process-'));
  await writeFile(path.join(directory, QEMU), STAYS, { mode: 0o755 });
  process.env.PATH = `${directory}:${PATH}`;
});
after(async () => {
  process.env.PATH = PATH;
  await rm(directory, { recursive: true, force: true });
});

const start = (recordPath: string, marker: string, console: (chunk: Buffer) => void = () => {}) =>
  QemuProcess.start({ confinement: {}, args: [marker], console, files: [], recordPath });

test('a record that cannot be written leaves nothing running', async () => {
  await assert.rejects(start(path.join(directory, 'nowhere', 'x'), 'kiln-unrecorded'), { code: 'ENOENT' });
  const lines = await Promise.all(
    (await readdir('/proc'))
      .filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map(name => readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')),
  );
  assert.deepEqual(
    lines.filter(line => line.includes(`${directory}/${QEMU}`)),
    [],
  );
});

test('a process is recorded, its console heard, and its end seen', async () => {
  const recordPath = path.join(directory, 'record');
  const heard = new Promise<string>(resolve => {
    void start(recordPath, 'kiln-recorded', chunk => resolve(chunk.toString())).then(async qemu => {
      assert.equal(readRecord(recordPath)?.pid, qemu.pid);
      await heard;
      await qemu.kill();
      assert.equal(startTimeOf(qemu.pid), undefined);
    });
  });
  assert.equal(await heard, '[ 0.0] starting\n');
});

test('what is no record is none', () => {
  for (const text of ['', '{', 'null', '{}', '{"pid":"1"}', '{"pid":1,"startTime":"5"}', '{"pid":-7,"startTime":"5"}'])
    assert.equal(parseRecord(text), undefined, text);
  assert.deepEqual(parseRecord(JSON.stringify(ownRecord())), ownRecord());
  assert.ok(alive(ownRecord()));
});

test('a sweep ends what a record names, and does not stumble over damaged ones', async () => {
  const runs = await mkdtemp(path.join(directory, 'run-'));
  const child: ChildProcess = spawn('sleep', ['1000']);
  const ended = once(child, 'exit');
  await once(child, 'spawn');
  writeRecord(path.join(runs, recordName('build')), { pid: child.pid!, startTime: startTimeOf(child.pid!)! });
  await writeFile(path.join(runs, recordName('proof')), '');
  await writeFile(path.join(runs, recordName('other')), '{"pid":12');
  await sweepMachines(runs);
  const [, signal] = await ended;
  assert.equal(signal, 'SIGKILL');
  assert.deepEqual(await readdir(runs), []);
});
