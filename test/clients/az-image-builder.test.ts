/** The unmodified Azure CLI, `az image builder`: every command of 2.45, short of builds (az-build.test.ts). The server takes up no builds: a run stays queued. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { type Az, azOf, type Printed } from './az.ts';
import { layGround } from './az-ground.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import { type Served, serve } from './served.ts';
import {
  definitionId,
  GROUP,
  IDENTITY,
  IDENTITY_ID,
  imageId,
  LOCATION,
  managedImage,
  SOURCE,
  templateFile,
  templateId,
} from './templates.ts';

const SCRIPT = '#!/bin/sh\necho from a script\n';
const URN = 'Debian:debian-12:12-gen2:latest';
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

describe('az image builder', () => {
  let served: Served;
  let files: FileServer;
  let az: Az;
  const builder = (...args: string[]) => az.json('image', 'builder', ...args);
  const one = (name: string) => ['-g', GROUP, '-n', name];
  const names = (list: Printed) => list.map((each: Printed) => each.name ?? each.runOutputName).sort();
  const create = async (name: string, file: unknown) =>
    builder('create', ...one(name), '--image-template', await az.file(file));

  before(async () => {
    files = await serveFiles({ 'script.sh': SCRIPT });
    served = await serve(['--workers', '0', '--allow-local-downloads']);
    az = azOf(served);
    await layGround(az);
    await az.json('sig', 'create', '-g', GROUP, '--gallery-name', 'gallery');
    await az.json(
      ...['sig', 'image-definition', 'create', '-g', GROUP, '--gallery-name', 'gallery'],
      ...['--gallery-image-definition', 'web', '--publisher', 'Example', '--offer', 'web', '--sku', '12'],
      ...['--os-type', 'Linux', '--hyper-v-generation', 'V2'],
    );
  });
  after(async () => {
    await files?.close();
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  test('create from a file, show', async () => {
    const tags = { team: 'platform', größe: '4' };
    const made = await create('from-file', templateFile({ tags, distribute: [managedImage('first')] }));
    assert.equal(made.id.toLowerCase(), templateId('from-file').toLowerCase());
    assert.deepEqual(
      [made.name, made.type, made.location, made.provisioningState, made.provisioningError, made.lastRunStatus],
      ['from-file', 'Microsoft.VirtualMachineImages/imageTemplates', LOCATION, 'Succeeded', null, null],
    );
    assert.deepEqual(made.tags, tags);
    const { exactVersion, planInfo, ...source } = made.source;
    assert.deepEqual(source, SOURCE);
    assert.equal(planInfo, null);
    assert.match(exactVersion, /^\d/);
    const [identity] = Object.values<Printed>(made.identity.userAssignedIdentities);
    assert.match(identity.clientId, GUID);
    assert.match(identity.principalId, GUID);
    assert.deepEqual(made.customize[0].inline, ['echo hello']);
    assert.deepEqual(made.distribute, [managedImage('first')]);
    assert.match(made.exactStagingResourceGroup, /\/resourceGroups\/IT_clients_from-file_[0-9a-f-]{36}$/);
    assert.deepEqual(await builder('show', ...one('FROM-FILE')), made);

    const staging = await az.json('group', 'show', '-n', made.exactStagingResourceGroup.split('/').at(-1));
    assert.deepEqual(staging.tags, {
      createdBy: 'AzureVMImageBuilder',
      imageTemplateName: 'from-file',
      imageTemplateResourceGroupName: GROUP,
    });
  });

  test('create from flags: its script is fetched and hashed', async () => {
    const made = await builder(
      ...['create', ...one('from-flags'), '--image-source', URN, '--identity', IDENTITY],
      ...['--scripts', `${files.origin}/script.sh`, '--tags', 'a=b'],
      ...[
        '--managed-image-destinations',
        'second=westus2',
        '--shared-image-destinations',
        'gallery/web=westus2,eastus',
      ],
      ...['--build-timeout', '42', '--vm-size', 'Standard_D2s_v3', '--os-disk-size', '8'],
    );
    assert.equal(made.provisioningState, 'Succeeded');
    assert.deepEqual([made.buildTimeoutInMinutes, made.tags], [42, { a: 'b' }]);
    assert.deepEqual([made.vmProfile.vmSize, made.vmProfile.osDiskSizeGb], ['Standard_D2s_v3', 8]);
    const [script] = made.customize;
    assert.deepEqual([script.name, script.type], ['script.sh', 'Shell']);
    assert.equal(script.scriptUri, `${files.origin}/script.sh`);
    assert.equal(script.sha256Checksum, createHash('sha256').update(SCRIPT).digest('hex'));
    const [image, version] = made.distribute;
    assert.deepEqual([image.type, image.imageId, image.location], ['ManagedImage', imageId('second'), LOCATION]);
    assert.deepEqual(
      [version.type, version.galleryImageId, version.runOutputName, version.replicationRegions],
      ['SharedImage', definitionId('gallery', 'web'), 'web', ['westus2', 'eastus']],
    );
  });

  test('create by an alias of an image', async () => {
    const made = await builder(
      ...['create', ...one('alias'), '--image-source', 'Debian12', '--identity', IDENTITY],
      ...['--managed-image-destinations', 'third=westus2'],
    );
    const { publisher, offer, sku, version } = made.source;
    assert.deepEqual({ type: made.source.type, publisher, offer, sku, version }, SOURCE);
  });

  test('list, in the group and in the subscription', async () => {
    assert.deepEqual(names(await builder('list', '-g', GROUP)), ['alias', 'from-file', 'from-flags']);
    assert.deepEqual(names(await builder('list')), ['alias', 'from-file', 'from-flags']);
    await az.fails(3, /\(ResourceGroupNotFound\)/, 'image', 'builder', 'list', '-g', 'nope');
  });

  test('what cannot be: exit codes and words', async () => {
    const failing = (exitCode: number, said: RegExp, ...args: string[]) =>
      az.fails(exitCode, said, 'image', 'builder', ...args);
    const file = async (content: unknown) => ['--image-template', await az.file(content)];
    await failing(
      3,
      /\(ResourceNotFound\) The Resource 'Microsoft\.VirtualMachineImages\/imageTemplates\/nope' under resource group 'clients' was not found\./,
      ...['show', ...one('nope')],
    );
    const good = templateFile({ distribute: [managedImage('bad')] });
    await failing(3, /\(ResourceGroupNotFound\)/, 'create', '-g', 'nope', '-n', 'x', ...(await file(good)));
    await failing(
      1,
      /\(Conflict\) Update\/Upgrade of image templates is currently not supported\./,
      ...['create', ...one('from-file'), ...(await file(good))],
    );
    await failing(1, /\(Conflict\) Update\/Upgrade/, 'update', ...one('from-file'), '--set', 'tags.x=y');
    const { identity: _, ...anonymous } = good;
    await failing(
      1,
      /\(ValidationFailed\) Validation failed: 'ImageTemplate': Missing field 'identity'\./,
      ...['create', ...one('bad'), ...(await file(anonymous))],
    );
    // az leaves out a type that it does not know.
    const miscased = templateFile({ distribute: [{ ...managedImage('bad'), type: 'managedImage' }] });
    await failing(
      1,
      /\(ValidationFailed\) Validation failed: 'ImageTemplate\.properties': Field 'distribute\[0\]\.type' has a bad value: ''\./,
      ...['create', ...one('bad'), ...(await file(miscased))],
    );
    const short = templateFile({ distribute: [managedImage('bad')] });
    const hurried = { ...short, properties: { ...short.properties, buildTimeoutInMinutes: 3 } };
    await failing(1, /buildTimeoutInMinutes/, 'create', ...one('bad'), ...(await file(hurried)));
    await failing(3, /\(ResourceNotFound\)/, 'show', ...one('bad'));
    const nowhere = ['--image-source', URN, '--identity', IDENTITY, '--managed-image-destinations', 'bad=atlantis'];
    await failing(1, /Location atlantis is not a valid subscription location/, 'create', ...one('bad'), ...nowhere);
  });

  test('an identity without rights: the template is there, and says what is wrong', async () => {
    await az.json('identity', 'create', '-g', GROUP, '-n', 'powerless');
    const file = templateFile({ distribute: [managedImage('never')] });
    const identity = {
      type: 'UserAssigned',
      userAssignedIdentities: { [IDENTITY_ID.replace(IDENTITY, 'powerless')]: {} },
    };
    const path = await az.file({ ...file, identity });
    await az.fails(
      1,
      /Not authorized to access the resource: \S+\/images\/never\. Please check the user assigned identity has the correct permissions\./,
      ...['image', 'builder', 'create', ...one('powerless'), '--image-template', path],
    );
    const shown = await builder('show', ...one('powerless'));
    assert.equal(shown.provisioningState, 'Failed');
    assert.match(shown.provisioningError.message, /^Not authorized to access the resource/);
    await az.fails(
      1,
      /\(OperationNotAllowed\) Operation Microsoft\.VirtualMachineImages\/imageTemplates\/run\/action is not allowed in provisioning state: failed/,
      ...['image', 'builder', 'run', ...one('powerless')],
    );
    await builder('delete', ...one('powerless'));
  });

  test('a deferred template: customizers, outputs, validator; sent by update', async () => {
    // az prints the body that it will send.
    const edit = (what: string, verb: string, ...args: string[]) =>
      builder(what, verb, ...one('deferred'), ...args, '--defer');
    await builder('create', ...one('deferred'), '--image-source', URN, '--identity', IDENTITY, '--defer');
    await az.fails(3, /\(ResourceNotFound\)/, 'image', 'builder', 'show', ...one('deferred'));
    const undeferred = ['customizer', 'add', ...one('deferred'), '--customizer-name', 'a', '--type', 'shell'];
    await az.fails(1, /This command requires --defer/, 'image', 'builder', ...undeferred, '--inline-script', 'true');

    const named = (name: string, type: string) => ['--customizer-name', name, '--type', type];
    await edit('customizer', 'add', ...named('gone', 'shell'), '--inline-script', 'echo gone');
    assert.equal((await edit('customizer', 'clear')).properties.customize.length, 0);
    await edit('customizer', 'add', ...named('inline', 'shell'), '--inline-script', 'echo one', 'echo two');
    await edit('customizer', 'add', ...named('gone', 'shell'), '--script-url', `${files.origin}/nothing.sh`);
    const copy = ['--file-source', `${files.origin}/script.sh`, '--dest-path', '/tmp/script.sh'];
    await edit('customizer', 'add', ...named('copied', 'file'), ...copy);
    assert.deepEqual(names((await edit('customizer', 'remove', '--customizer-name', 'gone')).properties.customize), [
      'copied',
      'inline',
    ]);

    await edit('output', 'add', '--managed-image', 'gone', '--managed-image-location', LOCATION);
    assert.equal((await edit('output', 'clear')).properties.distribute.length, 0);
    await edit(
      'output',
      'add',
      '--managed-image',
      'fourth',
      '--managed-image-location',
      LOCATION,
      '--artifact-tags',
      'k=v',
    );
    await edit(
      'output',
      'add',
      '--gallery-name',
      'gallery',
      '--gallery-image-definition',
      'web',
      '--gallery-replication-regions',
      LOCATION,
    );
    await edit('output', 'add', '--is-vhd', '--output-name', 'disk');
    await edit('output', 'add', '--is-vhd', '--output-name', 'gone');
    assert.deepEqual(names((await edit('output', 'remove', '--output-name', 'gone')).properties.distribute), [
      'disk',
      'fourth',
      'web',
    ]);

    await edit('validator', 'add');
    await edit('validator', 'remove');
    await edit('validator', 'add', '--continue-distribute-on-failure', 'true');
    const validator = await edit('validator', 'show');
    assert.deepEqual([validator.continueDistributeOnFailure, validator.sourceValidationOnly], [true, false]);

    const made = await builder('update', ...one('deferred'));
    assert.equal(made.provisioningState, 'Succeeded');
    const [inline, copied] = made.customize;
    assert.deepEqual([inline.type, inline.name, inline.inline], ['Shell', 'inline', ['echo one', 'echo two']]);
    assert.deepEqual([copied.type, copied.name, copied.destination], ['File', 'copied', '/tmp/script.sh']);
    assert.equal(copied.sha256Checksum, createHash('sha256').update(SCRIPT).digest('hex'));
    const [image, version, vhd] = made.distribute;
    assert.deepEqual([image.runOutputName, image.artifactTags], ['fourth', { k: 'v' }]);
    assert.deepEqual([version.type, version.replicationRegions], ['SharedImage', [LOCATION]]);
    assert.deepEqual([vhd.type, vhd.runOutputName], ['VHD', 'disk']);
    assert.equal(made.validate.continueDistributeOnFailure, true);
    assert.deepEqual(await builder('show', ...one('deferred')), made);

    // Of a template that is there, the copy to edit is the server's.
    const cleared = (await edit('output', 'clear')).properties;
    assert.deepEqual([cleared.distribute, names(cleared.customize)], [[], ['copied', 'inline']]);
  });

  test('identity: show, remove, assign', async () => {
    const [shown] = Object.keys((await builder('identity', 'show', ...one('alias'))).userAssignedIdentities);
    assert.equal(shown?.toLowerCase(), IDENTITY_ID.toLowerCase());
    const removed = await builder('identity', 'remove', ...one('alias'), '--user-assigned', '--yes');
    assert.equal(removed.type, 'None');
    assert.equal((await builder('identity', 'show', ...one('alias'))).type, 'None');
    const assigned = await builder('identity', 'assign', ...one('alias'), '--user-assigned', IDENTITY);
    assert.equal(assigned.type, 'UserAssigned');
    assert.deepEqual(
      Object.keys(assigned.userAssignedIdentities).map(id => id.toLowerCase()),
      [IDENTITY_ID.toLowerCase()],
    );
    await az.fails(
      1,
      /identit/i,
      ...['image', 'builder', 'identity', 'assign', ...one('alias'), '--user-assigned', 'powerless'],
    );
  });

  test('run, show, cancel, wait', async () => {
    await builder('wait', ...one('alias'), '--created', '--timeout', '20', '--interval', '1');
    assert.equal(await builder('run', ...one('alias'), '--no-wait'), undefined);
    const { lastRunStatus } = await builder('show', ...one('alias'));
    assert.deepEqual([lastRunStatus.runState, lastRunStatus.runSubState], ['Running', 'Queued']);
    assert.match(lastRunStatus.startTime, /^\d{4}-\d\d-\d\dT/);
    await az.fails(1, /\(\w+\) .*(already|not allowed)/, 'image', 'builder', 'run', ...one('alias'));
    await az.fails(
      1,
      /\(OperationNotAllowed\) Operation Microsoft\.VirtualMachineImages\/imageTemplates\/delete is not allowed in provisioning state: provisioned or run state: running\./,
      ...['image', 'builder', 'delete', ...one('alias')],
    );
    assert.equal(await builder('cancel', ...one('alias')), undefined);
    await builder(
      'wait',
      ...one('alias'),
      '--custom',
      "lastRunStatus.runState=='Canceled'",
      '--interval',
      '1',
      '--timeout',
      '30',
    );
    const ended = (await builder('show', ...one('alias'))).lastRunStatus;
    assert.deepEqual([ended.runState, ended.runSubState], ['Canceled', null]);
    await az.fails(
      1,
      /\(OperationNotAllowed\) Operation Microsoft\.VirtualMachineImages\/imageTemplates\/cancel\/action is not allowed/,
      ...['image', 'builder', 'cancel', ...one('alias')],
    );
  });

  test('show-runs, before anything was built', async () => {
    assert.deepEqual(await builder('show-runs', ...one('from-file')), []);
    await az.fails(
      3,
      /\(ResourceNotFound\).*runOutputs\/first/,
      ...['image', 'builder', 'show-runs', ...one('from-file'), '--output-name', 'first'],
    );
  });

  test('delete: the template and its staging group; again is no error', async () => {
    const { exactStagingResourceGroup } = await builder('show', ...one('from-flags'));
    assert.equal(await builder('delete', ...one('from-flags')), undefined);
    await az.fails(3, /\(ResourceNotFound\)/, 'image', 'builder', 'show', ...one('from-flags'));
    assert.equal(await az.json('group', 'exists', '-n', exactStagingResourceGroup.split('/').at(-1)), false);
    await builder('delete', ...one('from-flags'));
    await builder('wait', ...one('from-flags'), '--deleted', '--timeout', '20', '--interval', '1');
  });

  test('the group with everything in it', async () => {
    const staging = (await az.json('group', 'list')).map((group: Printed) => group.name);
    assert.ok(staging.some((name: string) => name.startsWith('IT_clients_from-file_')));
    await az.json('group', 'delete', '-n', GROUP, '--yes');
    assert.equal(await az.json('group', 'exists', '-n', GROUP), false);
    assert.deepEqual(await builder('list'), []);
    assert.deepEqual(await az.json('group', 'list'), []);
  });
});
