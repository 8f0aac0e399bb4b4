import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

function kiln(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

test('help names every command; each command has help with an example', () => {
  const { status, stdout } = kiln('--help');
  assert.equal(status, 0);
  const commands = [
    ...stdout
      .split('Commands:')[1]!
      .split('Examples:')[0]!
      .matchAll(/^ {2}([a-z]+)\b.* {2,}\S/gm),
  ]
    .map(match => match[1]!)
    .filter(name => name !== 'help');
  assert.ok(commands.includes('doctor') && commands.includes('test'), stdout);
  for (const command of commands) {
    const help = kiln(command, '--help');
    assert.equal(help.status, 0, command);
    assert.match(help.stdout, new RegExp(`Examples:\\n +kiln ${command}`), command);
  }
});

test('an unknown command gets a suggestion and the exit code of wrong usage', () => {
  const wrong = kiln('docter');
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /unknown command 'docter'[\s\S]*Did you mean doctor\?/);
  assert.equal(wrong.stdout, '');
  assert.equal(kiln().status, 2);
});

test('with --json an error is JSON on standard output, wherever the option stands', () => {
  for (const args of [
    ['--json', 'test', 'no/such/test/file'],
    ['test', 'no/such/test/file', '--json'],
  ]) {
    const { status, stdout, stderr } = kiln(...args);
    assert.equal(status, 2);
    assert.equal(stderr, '');
    assert.equal(JSON.parse(stdout).error.code, 'UsageError');
  }
});

test('a cache is not pruned by words that mean nothing or exclude each other', () => {
  for (const [args, message] of [
    [['--budget', 'x'], /^error: --budget takes a size such as 40GiB, not "x"/],
    [['--older-than', 'soon'], /^error: --older-than takes an age/],
    [['--all', '--budget', '5GiB'], /^error: --all leaves nothing for/],
    [['--all', '--older-than', '7d'], /^error: --all leaves nothing for/],
  ] as const) {
    const { status, stderr } = kiln('--home', '/nonexistent/kiln', 'cache', 'prune', ...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});

test('a reader that has gone is no error', () => {
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', '{ "$0" "$1" --help; echo $? >&2; } | true', process.execPath, MAIN],
    {
      encoding: 'utf8',
    },
  );
  assert.equal(status, 0);
  assert.equal(stderr.trim(), '0');
});

test('doctor answers in JSON with an exit code that fits', t => {
  const home = mkdtempSync(join(tmpdir(), 'kiln-doctor-'));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  const { status, stdout } = kiln('doctor', '--json', '--home', home);
  const { ready, findings } = JSON.parse(stdout) as { ready: boolean; findings: { state: string }[] };
  assert.equal(status, ready ? 0 : 5);
  assert.equal(
    ready,
    findings.every(finding => finding.state !== 'missing'),
  );
});

test('doctor says what is wrong with a state directory that cannot be one', () => {
  const { status, stdout } = kiln('doctor', '--json', '--home', '/dev/null/kiln');
  assert.equal(status, 5);
  const found = JSON.parse(stdout).findings.find((finding: { name: string }) => finding.name === 'state directory');
  assert.equal(found.state, 'missing');
  assert.match(found.hint, /--home/);
});
