import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import ssh2 from 'ssh2';
import { run } from '../../processes/process.ts';
import { MAC_ADDRESS } from './command-line.ts';
import { newIdentity, wireForm } from './identity.ts';
import { seedFiles, writeSeed } from './seed.ts';

const content = { instanceId: 'run-build', hostname: 'kiln', identity: newIdentity() };

test('the seed makes a user that only its key opens', () => {
  const files = seedFiles(content);
  const userData = JSON.parse(files['user-data']!.replace('#cloud-config\n', ''));
  assert.ok(files['user-data']!.startsWith('#cloud-config\n'));
  const [user] = userData.users;
  assert.deepEqual([user.name, user.lock_passwd, user.sudo], ['kiln', true, 'ALL=(ALL) NOPASSWD:ALL']);
  assert.deepEqual(user.ssh_authorized_keys, [content.identity.login.publicKey]);
  assert.equal(userData.ssh_keys.ed25519_private, content.identity.host.privateKey);
  assert.ok(!files['user-data']!.includes(JSON.stringify(content.identity.login.privateKey).slice(1, -1)));
  assert.equal(JSON.parse(files['network-config']!).ethernets.eth0.match.macaddress, MAC_ADDRESS);
});

test('keys are new for each machine and are what they say', () => {
  const other = newIdentity();
  assert.notEqual(other.login.privateKey, content.identity.login.privateKey);
  const parsed = ssh2.utils.parseKey(other.host.privateKey);
  assert.ok(!(parsed instanceof Error) && 'getPublicSSH' in parsed);
  assert.ok((parsed as ssh2.ParsedKey).getPublicSSH().equals(wireForm(other.host.publicKey)));
});

test('the image is a FAT file system labelled CIDATA that only its owner can read', async context => {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'kiln-seed-'));
  context.after(() => rm(directory, { recursive: true }));
  const file = path.join(directory, 'seed.img');
  await writeSeed(file, content);
  assert.deepEqual(await readdir(directory), ['seed.img']);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.match((await run('mlabel', ['-s', '-i', file, '::'])).stdout, /CIDATA/);
  assert.equal((await run('mtype', ['-i', file, '::user-data'])).stdout, seedFiles(content)['user-data']);
});
