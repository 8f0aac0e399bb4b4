/**
 * Validators in a real guest that boots from the finished image, what their failure means, and targets of which one cannot be written. On the quick guest of
 * the crash tests: what is looked at is the run, not the guest.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openDatabase } from '../../src/database/connection.ts';
import { convertDisk } from '../../src/disks/qemu-img.ts';
import { openHome } from '../../src/home.ts';
import { makeQuickGuest, type QuickGuest } from '../chaos/quick-guest.ts';
import { type TemplateOptions, writeTemplate } from '../chaos/templates.ts';
import { outputsOf, tracesOf } from '../chaos/traces.ts';
import { kiln, leftovers, start, temporaryHome } from '../kiln.ts';
import { openOffline } from './offline-disk.ts';

const home = await temporaryHome();
const directory = await temporaryHome();
let guest: QuickGuest;
let env: NodeJS.ProcessEnv;

before(async () => {
  guest = await makeQuickGuest(directory.path);
  env = { KILN_CACHE: guest.cache };
});

after(async () => {
  await home.remove();
  await directory.remove();
});

interface Report {
  readonly state: string;
  readonly error: { readonly code: string; readonly message: string; readonly target?: string } | null;
  readonly phases: readonly { readonly kind: string; readonly name: string; readonly state: string }[];
}

/** Builds to the end, and says how it went: to the person who typed it, in the rows, in the logs. */
async function build(name: string, options: TemplateOptions) {
  const template = await writeTemplate(directory.path, name, options);
  const running = start(['--home', home.path, 'build', template, '--catalogue', guest.catalogue], env);
  const [, id = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
  const outcome = await running.ended;
  const { stdout } = await kiln(['--home', home.path, '--json', 'runs', 'show', id], env);
  const report = JSON.parse(stdout) as Report;
  assert.deepEqual(await tracesOf(home.path, id), []);
  const log = (file: string) => readFile(join(home.path, 'logs', id, file), 'utf8');
  return {
    ...{ id, outcome, report, log },
    /** Kind and state of each phase from the capture on; of all where nothing is captured. */
    phases: report.phases
      .slice(report.phases.findIndex(({ kind }) => kind === 'capture') + 1)
      .map(({ kind, state }) => `${kind} ${state}`),
    outputs: (await outputsOf(home.path, id)).map(output => output.name),
  };
}

/** What clients of the API poll: the message of lastRunStatus, and the operation. */
async function told(id: string) {
  const database = await openDatabase({ home: await openHome({ home: home.path }), log: () => {} });
  try {
    const run = database.kysely.selectFrom('run').innerJoin('operation', 'operation.id', 'run.operation_id');
    return await run.select(['run.message', 'operation.status']).where('run.id', '=', id).executeTakeFirstOrThrow();
  } finally {
    await database.close();
  }
}

test('validators see the finished image and leave nothing in it; a target that cannot be written does not keep the others from theirs', async () => {
  await writeFile(join(directory.path, 'expected.txt'), 'made by the build\n');
  await writeFile(join(directory.path, 'check.sh'), '#!/bin/sh\necho "from a script: $(cat /etc/made)"\n');
  const inVMValidations = [
    { type: 'File', name: 'expectation', sourceUri: './expected.txt', destination: '/tmp/expected.txt' },
    {
      type: 'Shell',
      name: 'compare',
      inline: [
        'cmp /tmp/expected.txt /etc/made',
        // A new machine: what the build left in its own /tmp and home is gone with its user, the identity is new.
        'test ! -e /home/kiln/of-the-build',
        'test -s /etc/machine-id && ! grep -qxf /etc/machine-id /etc/id-of-the-build',
        'echo 0123 | sudo tee /etc/from-a-validator',
      ],
    },
    { type: 'Shell', name: 'script', scriptUri: './check.sh' },
  ];
  const steps = [
    [
      'echo "made by the build" | sudo tee /etc/made',
      'sudo cp /etc/machine-id /etc/id-of-the-build',
      'touch ~/of-the-build',
    ],
  ];
  // Where VHDs of the region would lie, there is a file.
  await mkdir(join(home.path, 'regions', 'westeurope'), { recursive: true });
  const obstacle = join(home.path, 'regions', 'westeurope', 'VHD');
  await writeFile(obstacle, '');
  const options = { bootProof: 'on', outputs: 2, steps, validate: { inVMValidations } } as const;
  const { id, outcome, report, phases, outputs, log } = await build('checked', options);
  await rm(obstacle);

  assert.deepEqual(
    phases,
    ['prove', 'validate', 'validate', 'validate']
      .map(kind => `${kind} Succeeded`)
      .concat('distribute Failed', 'distribute Succeeded'),
    outcome.stderr,
  );
  assert.equal(report.state, 'PartiallySucceeded');
  assert.deepEqual(outputs, ['checked-image']);
  assert.equal(outcome.exitCode, 4);
  assert.match(outcome.stdout, /Published all the same:.*checked-image.*fsverity sha256:/s);
  const sentence =
    /^Failed in distributing 1 images out of total 2: \{\[Error 0\] \[Distribute 0\] VHD "checked-vhd" .*could not be published: .*\}$/;
  assert.match(report.error?.message ?? '', sentence);
  const { message, status } = await told(id);
  assert.match(message ?? '', sentence);
  assert.equal(status, 'Failed');

  const validation = await log('validation.log');
  const line = (text: string) => `[${id}] PACKER OUT     azure-arm: ${text}\n`;
  assert.ok(validation.includes(line('0123')), validation);
  assert.ok(validation.includes(line('from a script: made by the build')));
  assert.match(validation, /PACKER ERR .* \(telemetry\) Starting provisioner file\n/);
  assert.match(validation, /PACKER OUT Build 'azure-arm' finished after .*\n.*\[INFO\] \(telemetry\) Finalizing\.\n$/);
  assert.doesNotMatch(await log('customization.log'), /from a script|Validator/);
  const { stdout: rows } = await kiln(['--home', home.path, 'logs', id], env);
  assert.match(rows, /Validator 2\/3 Shell "compare": 4 lines\n.*from a script: made by the build/s);

  const path = (await outputsOf(home.path, id))[0]!.path!;
  const raw = join(directory.path, 'checked.raw');
  await convertDisk({ path, format: 'qcow2' }, { to: raw, format: 'raw' });
  const disk = await openOffline(raw);
  assert.equal(await disk.text('/etc/made'), 'made by the build\n');
  assert.equal(await disk.text('/etc/from-a-validator'), undefined);
  assert.equal(await disk.text('/tmp/expected.txt'), undefined);
  assert.equal(await disk.text('/etc/machine-id'), '');
  await rm(raw);
});

const COMPLAINTS = {
  inVMValidations: [
    { type: 'Shell', name: 'strict', inline: ['echo "the port is closed" >&2', 'exit 7'] },
    { type: 'Shell', name: 'never', inline: ['echo never'] },
  ],
};

test('a validator that fails keeps an image from being distributed', async () => {
  const { id, outcome, report, phases, outputs, log } = await build('refused', { validate: COMPLAINTS, outputs: 2 });
  assert.equal(report.state, 'Failed', outcome.stderr);
  assert.deepEqual(phases, [
    'validate Succeeded',
    'validate Failed',
    'validate Skipped',
    'distribute Skipped',
    'distribute Skipped',
  ]);
  assert.deepEqual(outputs, []);
  assert.equal(outcome.exitCode, 4);
  assert.match(
    outcome.stderr,
    /^error: Validator 1\/2 Shell "strict" failed with exit code 7\. Last lines:\n.*the port is closed/m,
  );
  assert.match(outcome.stderr, /at: .*refused\.json:\d+:\d+ \(properties\.validate\.inVMValidations\[0\]\)/);
  const { message } = await told(id);
  assert.match(
    message ?? '',
    /^Failed while waiting for packerizer: .* Image Build log location: logs\/[0-9a-f-]+\/validation\.log\. OperationId: /,
  );
  assert.match(message ?? '', /exit code 7/);
  assert.match(await log('validation.log'), /Build 'azure-arm' errored: Validator 1\/2 Shell "strict" failed/);
});

test('with continueDistributeOnFailure the image is distributed, and the run has failed all the same', async () => {
  const validate = { ...COMPLAINTS, continueDistributeOnFailure: true };
  const { id, outcome, report, phases, outputs } = await build('kept', { validate, outputs: 1 });
  assert.equal(report.state, 'Failed', outcome.stderr);
  assert.deepEqual(phases, ['validate Succeeded', 'validate Failed', 'validate Skipped', 'distribute Succeeded']);
  assert.deepEqual(outputs, ['kept-vhd']);
  assert.equal(report.error?.code, 'StepFailed');
  assert.equal(outcome.exitCode, 4);
  assert.match(outcome.stdout, /kept-vhd/);
  assert.match(outcome.stderr, /exit code 7/);
  assert.equal((await told(id)).status, 'Failed');
});

test('sourceValidationOnly: the validators look at the source, and nothing is made', async () => {
  const validate = {
    sourceValidationOnly: true,
    inVMValidations: [
      { type: 'Shell', name: 'source', inline: ['test -e /etc/debian_version', 'test ! -e /etc/made'] },
    ],
  };
  const steps = [['sudo touch /etc/made']];
  const { outcome, report, outputs } = await build('looked-at', { validate, steps });
  assert.equal(outcome.exitCode, 0, outcome.stderr);
  assert.equal(report.state, 'Succeeded');
  assert.deepEqual(
    report.phases.map(({ kind, state }) => `${kind} ${state}`),
    ['source Succeeded', 'boot Succeeded', 'validate Succeeded'],
  );
  assert.deepEqual(outputs, []);
  assert.match(outcome.stderr, /sourceValidationOnly is true: no image is built/);
  assert.match(outcome.stdout, /Validated the source of looked-at in/);
});

test('nothing of them is left', async () => {
  assert.deepEqual(await leftovers(home.path), []);
});
