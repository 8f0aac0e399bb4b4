import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../processes/process.ts';
import { misfits } from './facts.ts';
import { newIdentity } from './identity.ts';
import { clockScript, newMachineId, renewalScript } from './renewal.ts';

test('a machine-id is a random UUID of version 4 without dashes', () => {
  const ids = Array.from({ length: 100 }, newMachineId);
  for (const id of ids) assert.match(id, /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  assert.equal(new Set(ids).size, ids.length);
});

test('the script is one that sh reads, and takes no secret of the run along', async () => {
  const identity = newIdentity();
  const entropy = randomBytes(64);
  const text = renewalScript({ identity, machineId: newMachineId(), entropy });
  await run('sh', ['-n'], { input: text });
  assert.ok(text.includes(entropy.toString('hex')));
  assert.ok(text.includes(identity.login.publicKey));
  // Kiln's own key, which opens the guest, stays with Kiln.
  const secret = Buffer.from(identity.login.privateKey).toString('base64');
  assert.ok(!text.includes(identity.login.privateKey) && !text.includes(secret));
});

test('keys of earlier runs leave authorized_keys, and all others stay as they are', async () => {
  const identity = newIdentity();
  const earlier = newIdentity().login.publicKey;
  const text = renewalScript({ identity, machineId: newMachineId(), entropy: randomBytes(64) });
  const part = text.slice(text.indexOf('for keys in '), text.indexOf('sessions='));
  const directory = await mkdtemp(join(tmpdir(), 'kiln-renewal-'));
  try {
    const file = join(directory, 'authorized_keys');
    const script = part
      .replaceAll(`~${identity.user}/.ssh/authorized_keys`, file)
      .replaceAll('/root/.ssh/authorized_keys', join(directory, 'none'));
    for (const [before, kept] of [
      [`${earlier}\n`, ''],
      [`# a  \\ "note"\n\tssh-ed25519 AAAA own\n${earlier}`, '# a  \\ "note"\n\tssh-ed25519 AAAA own\n'],
      ['ssh-ed25519 AAAA no end of line', 'ssh-ed25519 AAAA no end of line\n'],
    ] as const) {
      await writeFile(file, before);
      await run('sh', ['-s'], { input: script });
      assert.equal(await readFile(file, 'utf8'), `${kept}${identity.login.publicKey}\n`);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('the clock is set to the time that was given, plus what went by since', async () => {
  const text = clockScript(1_700_000_000_123);
  await run('sh', ['-n'], { input: text });
  // The real shell and its arithmetic, with programs that only say what they are asked.
  const programs = 'date() { echo "$*" >&2; echo 1700000000; }\nsystemctl() { return 1; }\n';
  const { stderr } = await run('sh', [], { input: programs + text });
  assert.match(stderr, /^-s @170000000[0-2]$/m);
});

test('what a checkpoint does not fit to is named', () => {
  const here = { qemu: '7.2.22', memoryMiB: 1024 };
  assert.deepEqual(misfits(here, { ...here }), []);
  assert.deepEqual(misfits({ ...here, qemu: '8.0' }, here), ['qemu was 8.0 and is 7.2.22']);
  assert.deepEqual(misfits(here, { ...here, host: 'ab' }), ['host was unknown and is ab']);
});
