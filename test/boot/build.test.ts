/**
 * One template that uses everything, built in a real guest by the real command line; then its disks are examined as a
 * stranger would: with qemu-img, with debugfs while they are off, and from inside of machines that boot from them.
 */
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { VerityDigest } from '../../src/disks/verity.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, leftovers, type Outcome, temporaryHome } from '../kiln.ts';
import {
  DEFINITION_ID,
  DISK_GIB,
  type Everything,
  MANAGED_IMAGE_ID,
  REGIONS,
  ROOT_KEY,
  SECOND_IMAGE_ID,
  TAGS,
  writeEverything,
  writeSecond,
} from './build-template.ts';
import { bootGuest, type Guest } from './guest.ts';
import { type OfflineDisk, openOffline } from './offline-disk.ts';

interface Report {
  readonly id: string;
  readonly state: string;
  readonly seconds: number;
  readonly startedAt: string;
  readonly machine: { processors: number; memoryMiB: number; accelerator: string };
  readonly phases: readonly {
    kind: string;
    name: string;
    state: string;
    key: string;
    cached: boolean;
    seconds: number;
    bytes: number | null;
    detail: Record<string, unknown> | null;
  }[];
  readonly outputs: readonly {
    name: string;
    artifactId: string;
    artifactUri: string | null;
    location: string;
    path: string;
    fsverity: string;
    bytes: number;
    virtualSize: number;
  }[];
}

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const env = { KILN_CACHE: cacheDirectory() };

let home: Awaited<ReturnType<typeof temporaryHome>>;
let template: Everything;
let built: Outcome;
let report: Report;
/** What the steps of the build saw: name → values. */
let facts: Map<string, string[]>;
/** Machine-ids seen so far, of the machine that built and of those that booted what it built. */
const machineIds = new Set<string>();

const command = (...args: string[]) => kiln(['--home', home.path, ...args], env);

async function answer(...args: string[]): Promise<string> {
  const outcome = await command(...args);
  assert.equal(outcome.exitCode, 0, outcome.stderr);
  return outcome.stdout;
}

async function factsOf(runId: string): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const line of (await answer('logs', runId, '--json')).trim().split('\n')) {
    const match = /^fact ([a-z-]+)=(.*)$/.exec(JSON.parse(line).text);
    if (match) found.set(match[1]!, [...(found.get(match[1]!) ?? []), match[2]!]);
  }
  return found;
}

const output = (name: string) => {
  const found = report.outputs.find(one => one.name === name);
  assert.ok(found, `no output ${name}`);
  return found;
};

// One suite around all: a build that fails is told of once.
describe('a build of everything', () => {
  before(async () => {
    home = await temporaryHome();
    template = await writeEverything(join(home.path, 'template'));
    built = await command('build', template.path, '--json', '--set', `region=${REGIONS[0]}`);
    assert.equal(built.exitCode, 0, `${built.stdout}\n${built.stderr}`);
    report = JSON.parse(built.stdout).run;
    facts = await factsOf(report.id);
    machineIds.add(facts.get('machine-id')![0]!);
  });

  after(async () => home?.remove());

  describe('the report', () => {
    test('tells of every phase: state, time, key, bytes', () => {
      assert.equal(report.state, 'Succeeded');
      assert.deepEqual(
        report.phases.map(phase => phase.kind),
        [
          ...['source', 'boot'],
          ...Array.from({ length: 7 }, () => 'customize'),
          ...['generalize', 'capture', 'prove', 'distribute', 'distribute', 'distribute'],
        ],
      );
      for (const phase of report.phases) {
        assert.equal(phase.state, 'Succeeded', phase.name);
        assert.match(phase.key, /^[0-9a-f]{64}$/);
        assert.ok(phase.seconds >= 0, phase.name);
      }
      assert.equal(new Set(report.phases.map(phase => phase.key)).size, report.phases.length);
      // Targets run at once.
      const [targets, others] = [true, false].map(wanted =>
        report.phases.filter(({ kind }) => (kind === 'distribute') === wanted).map(({ seconds }) => seconds),
      );
      const inPhases = others!.reduce((a, b) => a + b, 0) + Math.max(...targets!);
      assert.ok(
        inPhases > 0 && inPhases <= report.seconds + 0.001,
        `${inPhases} s in phases, ${report.seconds} s in all`,
      );
      const large = report.phases.find(phase => phase.name.includes('"large"'));
      assert.equal(large?.bytes, template.largeSize);
      const boot = report.phases.find(phase => phase.kind === 'boot');
      assert.equal(boot?.detail?.virtualSize, DISK_GIB * GIB);
      assert.ok(report.machine.processors >= 1 && report.machine.memoryMiB >= 1024);
    });

    test('names the outputs with their places and checksums', () => {
      const names = ['everything-image', 'everything-version', 'everything-vhd'];
      assert.deepEqual(report.outputs.map(one => one.name).sort(), names);
      for (const one of report.outputs) {
        assert.match(one.fsverity, /^sha256:[0-9a-f]{64}$/);
        assert.equal(one.virtualSize, DISK_GIB * GIB);
        assert.equal(one.location, REGIONS[0]);
        assert.ok(one.bytes > 100 * MIB && one.bytes < one.virtualSize);
      }
      assert.equal(output('everything-image').artifactId, MANAGED_IMAGE_ID);
      assert.equal(output('everything-version').artifactId, `${DEFINITION_ID}/versions/3.0.1`);
      assert.equal(output('everything-vhd').artifactUri, `file://${output('everything-vhd').path}`);
    });

    test('what was made on the way was said', () => {
      for (const thing of ['resource group boot-test', 'gallery boottest', 'image definition boottest/everything'])
        assert.match(built.stderr, new RegExp(`Made the ${thing} in westeurope`));
    });
  });

  describe('a step', () => {
    const fact = (name: string) => facts.get(name)?.join(' ');

    test('runs as the login user in its home, with sudo, without a terminal or input', () => {
      assert.equal(fact('user'), 'kiln');
      assert.equal(fact('pwd'), fact('home'));
      assert.equal(fact('root'), '0');
      assert.equal(fact('terminal'), 'no');
      assert.equal(fact('stdin-bytes'), '0');
      assert.equal(fact('frontend'), 'noninteractive');
    });

    test('of inline lines is one script that ends at the first failure', () => {
      assert.equal(fact('one-script'), 'remembered');
      assert.equal(fact('errexit'), 'yes');
      assert.equal(fact('guarded-failure'), 'survived');
    });

    test('with a script runs by its first line, with Unix line endings, in a shell of its own', () => {
      assert.equal(fact('bash'), '5');
      assert.equal(fact('fresh-shell'), 'yes');
      assert.equal(fact('awk'), '5050');
    });

    test('finds the root file system grown to osDiskSizeGB', () => {
      assert.ok(Number(fact('root-size')) > (DISK_GIB - 0.5) * GIB, fact('root-size'));
    });
  });

  describe('the region store', () => {
    test('has a manifest beside every disk that says what it is', async () => {
      for (const [name, kind, format] of [
        ['everything-vhd', 'VHD', 'vhd'],
        ['everything-image', 'ManagedImage', 'qcow2'],
        ['everything-version', 'SharedImage', 'qcow2'],
      ] as const) {
        const { path, fsverity, artifactId } = output(name);
        const manifest = JSON.parse(await readFile(join(path, '../manifest.json'), 'utf8'));
        assert.deepEqual(
          { ...manifest, createdAt: '', source: '', tags: '', name: '', allocatedSize: 0, file: '' },
          {
            ...{ schema: 1, id: artifactId, kind, name: '', location: REGIONS[0], format, file: '' },
            ...{ virtualSize: DISK_GIB * GIB, allocatedSize: 0, fsverity, createdAt: '', runId: report.id },
            runOutputName: name,
            templateId: manifest.templateId,
            ...{ source: '', osType: 'Linux', hyperVGeneration: 'V2', firmware: 'bios', tags: '' },
          },
        );
        assert.match(manifest.templateId, /\/imageTemplates\/everything$/);
        assert.match(manifest.source.name, /^Debian:debian-12:12-gen2:/);
        const own = name === 'everything-image' ? TAGS : {};
        assert.deepEqual(manifest.tags, { ...own, correlationId: report.id });
      }
    });

    test('has the checksum of each file right', async () => {
      for (const name of ['everything-vhd', 'everything-image']) {
        const { path, fsverity } = output(name);
        const digest = new VerityDigest();
        for await (const chunk of createReadStream(path, { highWaterMark: 4 * MIB })) digest.add(chunk);
        assert.equal(digest.digest(), fsverity, name);
      }
    });

    test('has the gallery version in both regions', async () => {
      const listed = (await run('find', [join(home.path, 'regions'), '-name', 'manifest.json'])).stdout
        .trim()
        .split('\n');
      const versions = [];
      for (const path of listed) {
        const manifest = JSON.parse(await readFile(path, 'utf8'));
        if (manifest.kind === 'SharedImage') versions.push(manifest);
      }
      assert.deepEqual(versions.map(one => one.location).sort(), [...REGIONS].sort());
      assert.equal(new Set(versions.map(one => one.fsverity)).size, 1);
    });
  });

  describe('the VHD', () => {
    test('is fixed, of whole MiB, with a right footer, and sparse', async () => {
      const { path } = output('everything-vhd');
      const { size, blocks } = await stat(path);
      assert.equal(size, DISK_GIB * GIB + 512);
      assert.ok(blocks * 512 < size / 2, `${blocks * 512} bytes on disk`);
      const footer = Buffer.alloc(512);
      await using file = await open(path, 'r');
      await file.read(footer, 0, 512, size - 512);
      assert.equal(footer.toString('latin1', 0, 8), 'conectix');
      assert.equal(footer.readUInt32BE(60), 2);
      assert.equal(footer.readBigUInt64BE(48), BigInt(DISK_GIB * GIB));
      const sum = footer.reduce((total, byte, at) => (at >= 64 && at < 68 ? total : total + byte), 0);
      assert.equal(footer.readUInt32BE(64), ~sum >>> 0);
    });

    test('has the same content as the managed image, by qemu-img', async () => {
      const [vhd, image] = [output('everything-vhd').path, output('everything-image').path];
      const info = JSON.parse((await run('qemu-img', ['info', '--output=json', '-f', 'vpc', vhd])).stdout);
      assert.equal(info['virtual-size'], DISK_GIB * GIB);
      const standalone = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout);
      assert.equal(standalone.format, 'qcow2');
      assert.equal(standalone['backing-filename'], undefined);
      const { stdout } = await run('qemu-img', ['compare', '-f', 'vpc', '-F', 'qcow2', vhd, image]);
      assert.match(stdout, /identical/);
      await run('qemu-img', ['check', '-f', 'qcow2', image]);
    });
  });

  describe('the disk while it is off', () => {
    let disk: OfflineDisk;
    before(async () => {
      disk = await openOffline(output('everything-vhd').path);
    });

    test('has no identity of the machine that built it', async () => {
      assert.equal(await disk.text('/etc/machine-id'), '');
      const ssh = (await disk.names('/etc/ssh'))!;
      assert.ok(ssh.includes('sshd_config'));
      assert.deepEqual(
        ssh.filter(name => name.startsWith('ssh_host_')),
        [],
      );
      assert.doesNotMatch((await disk.text('/etc/hostname')) ?? '', /kiln/);
      const state = await disk.names('/var/lib/systemd');
      assert.ok(state && !state.includes('random-seed') && !state.includes('credential.secret'), state?.join(' '));
      assert.ok(['', undefined, '→ /etc/machine-id'].includes(await disk.text('/var/lib/dbus/machine-id')));
    });

    test('has what a unit of the template does when it is stopped', async () => {
      assert.ok((await disk.names('/opt/kiln-test'))?.includes('stopped'));
    });

    test('has no build user, nor copies of the files that named it', async () => {
      for (const file of ['passwd', 'shadow', 'group', 'gshadow', 'subuid', 'subgid']) {
        const text = (await disk.text(`/etc/${file}`))!;
        assert.doesNotMatch(text, /^kiln:|[:,]kiln(,|$)/m, file);
        if (file === 'passwd') assert.match(text, /^keeper:/m);
        assert.equal(await disk.text(`/etc/${file}-`), undefined, `${file}-`);
      }
      assert.deepEqual(await disk.names('/home'), ['keeper']);
      assert.ok(!(await disk.names('/etc/sudoers.d'))?.some(name => name.includes('cloud-init')));
      assert.ok(!(await disk.names('/var/mail'))?.includes('kiln'));
    });

    test('has no leases, no state of cloud-init, no logs and no scripts of the build', async () => {
      for (const directory of ['/var/lib/dhcp', '/var/lib/dhclient', '/var/lib/cloud', '/var/log/journal'])
        assert.deepEqual((await disk.names(directory)) ?? [], [], directory);
      const logs = (await disk.names('/var/log'))!;
      assert.deepEqual(
        logs.filter(name => /^(cloud-init|waagent)/.test(name)),
        [],
      );
      const network = [
        ...((await disk.names('/etc/systemd/network')) ?? []),
        ...((await disk.names('/etc/netplan')) ?? []),
      ];
      assert.deepEqual(
        network.filter(name => name.includes('cloud-init')),
        [],
      );
      const scripts = (await disk.names('/tmp'))!.filter(name => /^script_|Deprovisioning/.test(name));
      assert.deepEqual(scripts, []);
      assert.ok(!(await disk.names('/root'))!.includes('.bash_history'));
    });

    test("keeps root's key of the template, and only that", async () => {
      assert.equal(await disk.text('/root/.ssh/authorized_keys'), `${ROOT_KEY}\n`);
    });
  });

  describe('a machine that boots the VHD', () => {
    let guest: Guest;
    before(async () => {
      const cacheFile = join(env.KILN_CACHE, 'accelerator.json');
      const { path } = output('everything-vhd');
      guest = await bootGuest({ path, format: 'vhd' }, join(home.path, 'look'), cacheFile);
    });
    after(async () => guest?.[Symbol.asyncDispose]());

    test('has the files of the template: content, owner, mode', async () => {
      const files = await guest.ask("cd /opt/kiln-test && sudo stat -c '%n|%a|%U:%G|%F' *");
      assert.deepEqual(files.trim().split('\n').sort(), [
        'crlf.txt|644|root:root|regular file',
        'large.bin|444|root:root|regular file',
        'link|777|root:root|symbolic link',
        'notes.txt|640|root:root|regular file',
        'setuid|4755|root:root|regular file',
        'stopped|644|root:root|regular empty file',
        // Moved, not installed: it still has the build user's number, which nobody has now.
        'trailing slash.txt|644|UNKNOWN:UNKNOWN|regular file',
      ]);
      assert.equal(await guest.ask('cat /opt/kiln-test/crlf.txt'), 'line one\nline two\n');
      assert.equal(await guest.ask('sudo cat /opt/kiln-test/link'), 'relative to the home of the login user\n');
      assert.equal((await guest.ask('sha256sum < /opt/kiln-test/large.bin')).split(' ')[0], template.largeSha256);
      assert.equal(await guest.ask('sudo cat /home/keeper/kept.txt'), 'kept\n');
    });

    test('is a machine of its own: machine-id, host keys, cloud-init, build user', async () => {
      const id = (await guest.ask('cat /etc/machine-id')).trim();
      assert.match(id, /^[0-9a-f]{32}$/);
      assert.ok(!machineIds.has(id));
      machineIds.add(id);
      const keys = (await guest.ask('sudo cut -d" " -f2 /etc/ssh/ssh_host_*_key.pub')).trim().split('\n');
      assert.ok(keys.length >= 1 && facts.get('host-key')!.every(key => key.length > 60));
      assert.deepEqual(
        keys.filter(key => facts.get('host-key')!.includes(key)),
        [],
      );
      assert.equal((await guest.ask('ls /var/lib/cloud/instances')).trim(), 'look-look');
      assert.equal((await guest.ask('id -un')).trim(), 'kiln');
      const authorized = (await guest.ask('cut -d" " -f2 ~/.ssh/authorized_keys')).trim().split('\n');
      assert.equal(authorized.length, 1);
      assert.ok(!facts.get('login-key')!.includes(authorized[0]!));
      assert.deepEqual((await guest.ask('ls -A ~')).trim().split('\n').sort(), [
        '.bash_logout',
        '.bashrc',
        '.profile',
        '.ssh',
      ]);
      assert.equal((await guest.ask('ls /home | sort | tr "\\n" " "')).trim(), 'keeper kiln');
    });

    test('is sound: a grown root file system, packages, services', async () => {
      assert.ok(Number(await guest.ask('df -B1 --output=size / | tail -n 1')) > (DISK_GIB - 0.5) * GIB);
      await guest.ask('sudo apt-get check');
      assert.equal(await guest.ask('dpkg --audit'), '');
      assert.equal((await guest.ask('systemctl --failed --plain --no-legend')).trim(), '');
    });
  });

  describe('what is remembered', () => {
    test('runs and phases, by list and show', async () => {
      const [only, ...others] = JSON.parse(await answer('runs', 'list', '--json'));
      assert.equal(only.id, report.id);
      assert.deepEqual(others, []);
      const list = await answer('runs', 'list');
      assert.match(list, new RegExp(`${report.id.slice(0, 8)} +everything +Succeeded`));
      const shown = JSON.parse(await answer('runs', 'show', report.id.slice(0, 8), '--json'));
      assert.deepEqual(shown.phases, report.phases);
      const text = await answer('runs', 'show', 'latest');
      for (const phase of report.phases) assert.ok(text.includes(phase.name), phase.name);
    });

    test('the log, with what the guest printed and no control characters', async () => {
      const lines = (await answer('logs', report.id, '--json'))
        .trim()
        .split('\n')
        .map(line => JSON.parse(line));
      const told = lines.find(line => line.text === 'told on standard error');
      assert.equal(told.stream, 'stderr');
      assert.equal(report.phases[told.phase]?.name, '1/7 Shell "look"');
      assert.ok(lines.some(line => line.text === 'a line with colour: red'));
      assert.match(await answer('logs'), /\d\d:\d\d:\d\d {3}told on standard error/);
    });

    test("customization.log in Azure's format", async () => {
      const text = await readFile(join(home.path, 'logs', report.id, 'customization.log'), 'utf8');
      const lines = text.trimEnd().split('\n');
      for (const line of lines) assert.match(line, new RegExp(`^\\[${report.id}\\] PACKER (OUT|ERR) `), line);
      const marks = lines.flatMap(line => /\(telemetry\) (.*)$/.exec(line)?.[1] ?? []);
      const step = (type: string) => [`Starting provisioner ${type}`, `ending ${type}`];
      const steps = ['shell', 'shell', 'shell', 'file', 'file', 'file', 'shell'];
      assert.deepEqual(marks, [...steps.flatMap(step), 'Finalizing.']);
      assert.match(lines.at(-2)!, /PACKER OUT Build 'azure-arm' finished after \d+ (hour|minute|second)s? .*\.$/);
      assert.match(
        text,
        /PACKER ERR \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d \[INFO\] \(telemetry\) Starting provisioner shell\n/,
      );
      assert.match(text, /PACKER OUT {5}azure-arm: fact user=kiln\n/);
      assert.match(text, /PACKER OUT ==> azure-arm: told on standard error\n/);
    });

    test('the consoles of both machines', async () => {
      for (const name of ['console.log', 'proof-console.log'])
        assert.match(await readFile(join(home.path, 'logs', report.id, name), 'utf8'), /login:|Linux version/, name);
    });
  });

  test('an image that was built is the source of the next, by its newest version in another region', async () => {
    const second = await command('build', await writeSecond(join(home.path, 'template')), '--json');
    assert.equal(second.exitCode, 0, `${second.stdout}\n${second.stderr}`);
    const next: Report = JSON.parse(second.stdout).run;
    assert.ok(!next.phases.some(phase => phase.kind === 'prove'));
    assert.equal(next.phases[0]?.detail?.fsverity, output('everything-version').fsverity);
    const seen = await factsOf(next.id);
    assert.equal(seen.get('notes')?.[0], 'relative to the home of the login user');
    assert.ok(!machineIds.has(seen.get('machine-id')![0]!));
    assert.equal(next.outputs[0]?.artifactId, SECOND_IMAGE_ID);
    const { stdout } = await run('qemu-img', ['info', '--output=json', next.outputs[0]!.path]);
    assert.equal(JSON.parse(stdout)['backing-filename'], undefined);
  });

  test('nothing but images, rows and logs is left', async () => {
    assert.deepEqual(await leftovers(home.path), []);
  });
});
