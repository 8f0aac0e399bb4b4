/** swtpm itself is tested where it is installed; its arguments, and how a start fails, everywhere: a stand-in for the program is put before it in PATH. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { findProgram } from './accelerator.ts';
import { lacksTrustedLaunch, startTpm, tpmArguments } from './trusted-launch.ts';

const installed = await findProgram('swtpm').then(
  () => true,
  () => false,
);
const { PATH } = process.env;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-tpm-'));
});
afterEach(async () => {
  process.env.PATH = PATH;
  await rm(directory, { recursive: true });
});

const options = () => ({ confinement: {}, slot: undefined, fallback: join(directory, 'tpm'), signal: undefined });

async function standIn(script: string): Promise<void> {
  await writeFile(join(directory, 'swtpm'), `#!/bin/sh\n${script}\n`);
  await chmod(join(directory, 'swtpm'), 0o755);
  process.env.PATH = `${directory}:${PATH}`;
}

test('one TPM 2.0 for one machine: it ends with the connection, and only its owner reads its state', () => {
  const args = tpmArguments('/d/state', '/d/socket').join(' ');
  assert.match(args, /^socket --tpm2 --terminate /);
  assert.match(args, /--tpmstate dir=\/d\/state,mode=0600 --ctrl type=unixio,path=\/d\/socket,mode=0600$/);
});

test('what the host lacks is named', async () => {
  process.env.PATH = directory;
  assert.match((await lacksTrustedLaunch())!, /^swtpm \(package swtpm\) is not installed/);
});

test('a TPM that does not start says why, and leaves nothing', async () => {
  await standIn('echo "no entropy today" >&2; exit 1');
  await assert.rejects(startTpm(options()), { code: 'MachineLost', message: /did not start\. no entropy today/ });
  assert.deepEqual(await readdir(directory), ['swtpm']);
});

test('an end that comes while it starts is heard', async () => {
  await standIn('exec sleep 60');
  const signal = AbortSignal.timeout(100);
  await assert.rejects(startTpm({ ...options(), signal }), error => error === signal.reason);
  assert.ok(!existsSync(join(directory, 'tpm')));
});

test('a socket whose path is too long is refused before anything starts', async () => {
  const fallback = join(directory, 'x'.repeat(100));
  await assert.rejects(startTpm({ ...options(), fallback }), { code: 'NotSupported', message: /too long/ });
  assert.deepEqual(await readdir(directory), []);
});

test('a real one can be connected to, and is gone when it is closed', {
  skip: !installed && 'swtpm is not installed',
}, async () => {
  const tpm = await startTpm(options());
  const client = connect(tpm.socketPath);
  await new Promise<void>((resolve, reject) => client.once('connect', resolve).once('error', reject));
  client.destroy();
  await tpm.close();
  await tpm.close();
  assert.deepEqual(await readdir(directory), []);
});
