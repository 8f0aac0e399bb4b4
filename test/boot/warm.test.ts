/**
 * A source is booted once, ahead of time; two templates are then built from that one warm start at the same time. What each guest says of itself shows that they
 * share nothing which one could use against the other, and that what only a build machine has is gone from both images' way.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, type Outcome, temporaryHome, WITH_LAYERS } from '../kiln.ts';

/** One line each: `fact NAME=VALUE`. The first reads what kernel and shell would give alike if nothing had been renewed. */
const LOOK = [
  'echo "fact uuid=$(cat /proc/sys/kernel/random/uuid)"',
  `echo "fact shell=$(bash -c 'echo $RANDOM$RANDOM$RANDOM')"`,
  'echo "fact random=$(head -c 16 /dev/urandom | base64)"',
  'echo "fact clock=$(date +%s)"',
  'echo "fact machine-id=$(cat /etc/machine-id)"',
  'echo "fact dbus-machine-id=$(cat /var/lib/dbus/machine-id 2>/dev/null || cat /etc/machine-id)"',
  'for key in /etc/ssh/ssh_host_*_key; do echo "fact host-key=$(sudo ssh-keygen -lf $key)"; done',
  'echo "fact login-key=$(cat ~/.ssh/authorized_keys)"',
  'echo "fact hostname=$(hostname)"',
  // The server that listens started itself anew: nothing of the frozen one's memory is in it.
  'echo "fact listener=$(sudo sha256sum /proc/$(pgrep -o sshd)/maps)"',
  'echo "fact sessions=$(ps -eo args= | grep -c "^sshd: kiln@")"',
];

interface Guest {
  readonly facts: Readonly<Record<string, readonly string[]>>;
  readonly phases: readonly { kind: string; cached: boolean; state: string }[];
  /** The host's clock when the guest told its own; seconds. */
  readonly heard: number;
}

let home: Awaited<ReturnType<typeof temporaryHome>>;
let env: NodeJS.ProcessEnv;
let made: Outcome;
let again: Outcome;
const guests: Guest[] = [];

const size = 'Standard_B1ms';

async function template(name: string): Promise<string> {
  const path = join(home.path, `${name}.json`);
  const body = {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    ...{ apiVersion: '2024-02-01', name, location: 'westeurope', tags: { 'kiln.bootProof': 'off' } },
    properties: {
      vmProfile: { vmSize: size },
      source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
      customize: [{ type: 'Shell', name: 'look', inline: [`: ${name}`, ...LOOK] }],
      distribute: [{ type: 'VHD', runOutputName: name }],
    },
  };
  await writeFile(path, JSON.stringify(body));
  return path;
}

async function build(name: string): Promise<Guest> {
  const outcome = await kiln(['--home', home.path, '--json', 'build', await template(name)], env);
  assert.equal(outcome.exitCode, 0, outcome.stderr + outcome.stdout);
  const { run: report } = JSON.parse(outcome.stdout);
  const logged = await kiln(['--home', home.path, '--json', 'logs', report.id], env);
  const facts: Record<string, string[]> = {};
  let heard = 0;
  for (const text of logged.stdout.trim().split('\n')) {
    const line = JSON.parse(text) as { at: string; text: string };
    const [, fact, value] = /^fact ([a-z-]+)=(.*)$/.exec(line.text) ?? [];
    if (fact === undefined) continue;
    if (fact === 'clock') heard = Date.parse(line.at) / 1000;
    facts[fact] = [...(facts[fact] ?? []), value!];
  }
  return { facts, phases: report.phases, heard };
}

before(async () => {
  home = await temporaryHome();
  const cache = join(home.path, 'cache');
  await mkdir(cache);
  await run('cp', ['--archive', '--link', join(cacheDirectory(), 'sources'), cache]);
  env = { KILN_CACHE: cache, ...WITH_LAYERS };
  const warm = ['--home', home.path, '--json', 'cache', 'warm', 'Debian:debian-12:12-gen2', '--size', size];
  made = await kiln(warm, env);
  again = await kiln(warm, env);
  guests.push(...(await Promise.all(['one', 'two'].map(build))));
});
after(async () => home?.remove());

describe('a warm start that was made ahead of time', () => {
  test('is made once', () => {
    assert.equal(made.exitCode, 0, made.stderr);
    assert.equal(JSON.parse(made.stdout).made, true);
    assert.equal(JSON.parse(again.stdout).made, false);
    assert.equal(JSON.parse(made.stdout).key, JSON.parse(again.stdout).key);
  });

  test('can only be read by its owner', async () => {
    const { path } = JSON.parse(made.stdout) as { path: string };
    assert.equal((await stat(path)).mode & 0o077, 0);
    assert.equal((await stat(join(path, 'memory-1'))).mode & 0o777, 0o400);
    assert.doesNotMatch(await readFile(join(path, 'layer.json'), 'utf8'), /PRIVATE|ssh-/);
  });

  test('serves two templates at once, instead of a boot', () => {
    for (const { phases } of guests) {
      assert.deepEqual(
        phases.filter(({ cached }) => cached).map(({ kind }) => kind),
        ['source', 'boot'],
      );
    }
  });

  for (const what of ['uuid', 'shell', 'random', 'machine-id', 'dbus-machine-id', 'host-key', 'login-key', 'listener'])
    test(`gives each build another ${what}`, () => {
      const [one, two] = guests.map(({ facts }) => facts[what]);
      assert.equal(one?.length, 1, `${what}: ${one}`);
      assert.equal(two?.length, 1, `${what}: ${two}`);
      assert.notEqual(one![0], two![0]);
    });

  test('gives each the clock of the host, the same name, and nobody else’s session', () => {
    for (const { facts, heard } of guests) {
      assert.ok(Math.abs(Number(facts.clock) - heard) <= 2 * 60, `${facts.clock} at ${heard}`);
      assert.deepEqual(facts.sessions, ['0']);
    }
    assert.deepEqual(guests[0]!.facts.hostname, guests[1]!.facts.hostname);
  });
});
