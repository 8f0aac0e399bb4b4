import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statusPercent } from './packages.ts';
import { concerns, locate, missingFor, REQUIREMENTS, systemPath } from './requirements.ts';

test('only commands that run programs need any', () => {
  for (const command of ['runs list', 'images list', 'logs', 'doctor', 'version'])
    assert.deepEqual(missingFor(command), []);
  for (const command of ['build', 'test', 'images run', 'images export'])
    assert.ok(
      REQUIREMENTS.some(requirement => concerns(requirement, command)),
      command,
    );
});

test('every program that the bootstrap of a source image runs is in the table', async () => {
  const { BOOTSTRAP_TOOLS } = await import('../images/catalogue/debian/bootstrap.ts');
  const essential = new Set(['tar', 'coreutils']); // Debian's essential packages cannot be missing
  const packages = new Set(REQUIREMENTS.map(requirement => requirement.package));
  for (const tool of BOOTSTRAP_TOOLS)
    assert.ok(packages.has(tool.package) || essential.has(tool.package), `${tool.program} (${tool.package})`);
});

test('what only users need is there for the tests of root, too', () => {
  const user = REQUIREMENTS.filter(({ only }) => only === 'user');
  assert.ok(user.length > 0);
  for (const requirement of user) assert.ok(concerns(requirement, 'test'), requirement.program);
  if (process.getuid?.() === 0) for (const requirement of user) assert.ok(!concerns(requirement, 'build'));
});

test('programs are found in the directories of system programs, files by their path', () => {
  assert.equal(systemPath('/a:/b:/usr/sbin'), '/a:/b:/usr/sbin:/usr/local/sbin:/usr/bin:/sbin:/bin');
  assert.equal(locate('/etc/passwd'), '/etc/passwd');
  assert.equal(locate('/etc/there-is-no-such-file'), undefined);
  assert.match(locate('sh') ?? '', /\/sh$/);
  assert.equal(locate('no-such-program-anywhere'), undefined);
});

test("apt's status lines become one scale", () => {
  assert.equal(statusPercent('dlstatus:1:50.0:Retrieving file 1 of 2'), 25);
  assert.equal(statusPercent('pmstatus:qemu-utils:40.0000:Unpacking qemu-utils (amd64)'), 70);
  assert.equal(statusPercent('pmstatus:libc6:amd64:100.0000:Installed libc6'), 100);
  assert.equal(statusPercent('Setting up qemu-utils (1:7.2) ...'), undefined);
});
