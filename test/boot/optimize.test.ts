/** Images that are laid out for their first boot, by both machines. On the quick guest of the crash tests: what is looked at is where the image has its blocks. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chainOf } from '../../src/disks/chain.ts';
import { run } from '../../src/processes/process.ts';
import { makeQuickGuest, type QuickGuest } from '../chaos/quick-guest.ts';
import { type TemplateOptions, writeTemplate } from '../chaos/templates.ts';
import { outputsOf, tracesOf } from '../chaos/traces.ts';
import { kiln, leftovers, temporaryHome } from '../kiln.ts';

const home = await temporaryHome();
const directory = await temporaryHome();
const root = process.getuid?.() === 0;
const MIB = 1024 * 1024;
let guest: QuickGuest;

before(async () => {
  guest = await makeQuickGuest(directory.path);
});
after(async () => {
  await home.remove();
  await directory.remove();
});

interface Report {
  readonly id: string;
  readonly state: string;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly phases: readonly { readonly kind: string; readonly state: string; readonly detail: Detail | null }[];
}

interface Detail {
  readonly read: number;
  readonly fileSize: number;
  readonly before: { readonly requests: number; readonly end: number };
  readonly after: { readonly requests: number; readonly end: number };
}

async function build(name: string, options: TemplateOptions, machine: 'vm' | 'container') {
  const template = await writeTemplate(directory.path, name, { bootProof: 'on', outputs: 2, ...options });
  const env = { KILN_CACHE: guest.cache };
  const args = ['--home', home.path, 'build', template, '--catalogue', guest.catalogue, '--machine', machine];
  const outcome = await kiln(args, env);
  const id = /^run ([0-9a-f-]{36})$/m.exec(outcome.stderr)?.[1] ?? assert.fail(outcome.stderr);
  const { stdout } = await kiln(['--home', home.path, '--json', 'runs', 'show', id], env);
  const report = JSON.parse(stdout) as Report;
  assert.deepEqual(await tracesOf(home.path, id), []);
  return {
    ...{ id, outcome, report },
    phases: report.phases
      .slice(report.phases.findIndex(({ kind }) => kind === 'capture') + 1)
      .map(({ kind, state }) => `${kind} ${state}`),
    detail: report.phases.find(({ kind }) => kind === 'optimize')?.detail,
    log: await readFile(join(home.path, 'logs', id, 'customization.log'), 'utf8'),
    outputs: await outputsOf(home.path, id),
  };
}

const DATA = 8 * MIB;
/** Two files, of which the workload reads one: its letters are its own, so that they are found in the image's file. */
const steps = [
  [
    `yes used-by-the-workload | head -c ${DATA} | sudo tee /opt/used >/dev/null`,
    `yes of-no-use-at-all-now | head -c ${DATA} | sudo tee /opt/unused >/dev/null`,
  ],
];

test('what a boot and the workload read lies at the beginning of the image, and nothing else of it has changed', async () => {
  await writeFile(
    join(directory.path, 'load.sh'),
    '#!/bin/sh\necho "as $(id -un): $(wc -c < /opt/used)"\ntouch ~/trace\n',
  );
  const optimize = { vmBoot: { state: 'Enabled' }, workload: { state: 'Enabled', scriptUri: './load.sh' } };
  const { report, phases, detail, outcome, log, outputs } = await build('laid-out', { steps, optimize }, 'vm');
  assert.equal(report.state, 'Succeeded', outcome.stderr);
  // One boot for both: to see what is read, and to prove that it comes up.
  assert.deepEqual(
    phases,
    ['optimize', 'distribute', 'distribute'].map(kind => `${kind} Succeeded`),
  );
  assert.match(log, /as kiln: 8388608\n/);
  assert.match(log, /The image boots and answers; /);
  const { read, fileSize, before, after } = detail!;
  assert.match(
    log,
    new RegExp(` MiB of the image were read; .*: ${before.requests} requests before, ${after.requests} now\\.`),
  );
  assert.ok(read > 30 * MIB + DATA && read < fileSize / 2, JSON.stringify(detail));
  assert.ok(after.requests < before.requests * 0.75, JSON.stringify(detail));
  assert.ok(after.end < read + 2 * MIB && before.end > fileSize * 0.8, JSON.stringify(detail));

  const [image, vhd] = outputs.map(({ path }) => path!);
  assert.match(`${image} ${vhd}`, /disk\.qcow2 .*image\.vhd$/);
  await run('qemu-img', ['check', '-q', image!]);
  // The VHD was not rewritten, and is the same disk.
  const options = `driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=${vhd}`;
  await run('qemu-img', ['compare', '--image-opts', options, `driver=qcow2,file.driver=file,file.filename=${image}`]);
  assert.ok((await chainOf({ path: image!, format: 'qcow2' }))!.files.length === 1);
  const beginning = (await readFile(image!)).subarray(0, after.end);
  assert.ok(beginning.indexOf('used-by-the-workload\nused-by-the-workload') > DATA, 'behind what the boot reads');
  assert.equal(beginning.indexOf('of-no-use-at-all-now\nof-no-use-at-all-now'), -1);
});

test('an image of the container machine, which has never run before, is laid out by the same boot; validators see what comes of it', {
  skip: !root && 'mounting disks takes root',
}, async () => {
  const validate = { inVMValidations: [{ type: 'Shell', name: 'check', inline: ['test -e /opt/used'] }] };
  const optimize = { vmBoot: { state: 'Enabled' } };
  const { report, phases, detail, outcome } = await build('contained', { steps, optimize, validate }, 'container');
  assert.equal(report.state, 'Succeeded', outcome.stderr);
  assert.deepEqual(
    phases,
    ['optimize', 'prove', 'validate', 'distribute', 'distribute'].map(kind => `${kind} Succeeded`),
  );
  assert.ok(detail!.after.requests < detail!.before.requests * 0.75, JSON.stringify(detail));
});

test('a workload that fails ends the run, which says so', { skip: !root && 'mounting disks takes root' }, async () => {
  await writeFile(join(directory.path, 'fails.sh'), '#!/bin/sh\necho "no such database" >&2\nexit 7\n');
  const optimize = { workload: { state: 'Enabled', scriptUri: './fails.sh' } };
  const { report, phases, outcome, outputs } = await build('overloaded', { optimize }, 'container');
  assert.equal(report.state, 'Failed');
  assert.deepEqual(phases, ['optimize Failed', 'distribute Skipped', 'distribute Skipped']);
  assert.equal(outcome.exitCode, 4);
  assert.match(outcome.stderr, /^error: The workload failed with exit code 7\. Last lines:\n.*no such database/m);
  assert.match(outcome.stderr, /at: .*overloaded\.json:\d+:\d+ \(properties\.optimize\.workload\)/);
  assert.deepEqual(outputs, []);
});

test('nothing of them is left', async () => {
  assert.deepEqual(await leftovers(home.path), []);
});
