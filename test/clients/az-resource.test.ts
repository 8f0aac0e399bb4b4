/**
 * The unmodified Azure CLI, `az resource` on templates and triggers: what people type where `az image builder` has no command, and what `trigger` does
 * that 2.45 lacks. The server lets templates be revised (`--revise`), as Azure does not; it takes up no builds.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Az, azOf, type Printed } from './az.ts';
import { layGround } from './az-ground.ts';
import { type Served, serve } from './served.ts';
import { GROUP, GROUP_ID, LOCATION, managedImage, templateFile, templateId } from './templates.ts';

const TYPE = 'Microsoft.VirtualMachineImages/imageTemplates';
const NAMED = ['-g', GROUP, '--resource-type', TYPE, '-n', 'web'];

describe('az resource', () => {
  let served: Served;
  let az: Az;
  const resource = (...args: string[]) => az.json('resource', ...args);
  before(async () => {
    served = await serve(['--workers', '0', '--revise']);
    az = azOf(served);
    await layGround(az);
  });
  after(async () => {
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  test('create a template of a full object, show it by name and by id', async () => {
    const { apiVersion, type: _, dependsOn: __, ...full } = templateFile({ distribute: [managedImage('web')] });
    const file = await az.file(full);
    const made = await resource(
      ...['create', ...NAMED, '--is-full-object', '--api-version', apiVersion, '--properties', `@${file}`],
    );
    assert.deepEqual([made.name, made.type, made.location], ['web', TYPE, LOCATION]);
    assert.equal(made.properties.provisioningState, 'Succeeded');
    assert.deepEqual(await resource('show', ...NAMED, '--api-version', apiVersion), made);
    assert.deepEqual(await resource('show', '--ids', templateId('web'), '--api-version', apiVersion), made);
    // Without a version, az takes the newest that the provider tells of.
    const newest = await resource('show', '--ids', templateId('web'));
    assert.equal(newest.properties.provisioningState, 'Succeeded');
    await resource('wait', '--ids', templateId('web'), '--created', '--timeout', '20', '--interval', '1');
    await az.fails(
      3,
      /\(ResourceNotFound\) The Resource 'Microsoft\.VirtualMachineImages\/imageTemplates\/nope' under resource group 'clients' was not found\. For more details please go to https:\/\/aka\.ms\/ARMResourceNotFoundFix/,
      ...['resource', 'show', '--ids', templateId('nope')],
    );
  });

  test('a template that breaks a rule is refused in words', async () => {
    const { type: _, ...full } = templateFile({ distribute: [] });
    const wrong = { ...full, properties: { ...full.properties, customize: [{ type: 'Shell', inlne: ['true'] }] } };
    await az.fails(
      1,
      /unknown field "inlne"/,
      ...['resource', 'create', '-g', GROUP, '--resource-type', TYPE, '-n', 'wrong', '--is-full-object'],
      ...['--api-version', '2024-02-01', '--properties', `@${await az.file(wrong)}`],
    );
  });

  test('tag: az puts the whole template back, what is read-only included', async () => {
    const tagged = await resource('tag', '--ids', templateId('web'), '--tags', 'cost=42', 'team=web');
    assert.deepEqual(tagged.tags, { cost: '42', team: 'web' });
    const { tags, properties } = await resource('show', '--ids', templateId('web'));
    assert.deepEqual(tags, { cost: '42', team: 'web' });
    assert.deepEqual(properties.customize[0].inline, ['echo hello']);
    assert.equal(properties.provisioningState, 'Succeeded');
  });

  test('a revision by az image builder update', async () => {
    const which = ['-g', GROUP, '-n', 'web'];
    const update = (...args: string[]) => az.json('image', 'builder', 'update', ...which, ...args);
    assert.equal((await update('--set', 'tags.cost=43')).tags.cost, '43');
    const { distribute } = await update('--add', 'distribute', 'type=VHD', 'runOutputName=disk');
    assert.deepEqual(
      distribute.map((one: Printed) => [one.type, one.runOutputName]),
      [
        ['ManagedImage', 'web'],
        ['VHD', 'disk'],
      ],
    );
  });

  test('list', async () => {
    const inGroup: Printed[] = await resource('list', '-g', GROUP);
    assert.deepEqual(inGroup.map(({ name, location }) => [name, location]).sort(), [
      ['builder', LOCATION],
      ['web', LOCATION],
    ]);
    const templates: Printed[] = await resource('list', '--resource-type', TYPE);
    assert.deepEqual(
      templates.map(({ id, tags }) => [id.toLowerCase(), tags]),
      [[templateId('web').toLowerCase(), { cost: '43', team: 'web' }]],
    );
    const tagged: Printed[] = await resource('list', '--tag', 'team=web');
    assert.deepEqual(
      tagged.map(({ name }) => name),
      ['web'],
    );
  });

  test('invoke-action: Run, Cancel', async () => {
    // The action waits for the end of the build; another command cancels that.
    const running = az.run('resource', 'invoke-action', ...NAMED, '--action', 'Run');
    const which = ['-g', GROUP, '-n', 'web'];
    const started = "lastRunStatus.runState=='Running'";
    await az.json('image', 'builder', 'wait', ...which, '--custom', started, '--interval', '1', '--timeout', '60');
    // What az makes of an answer without a body.
    assert.deepEqual(await resource('invoke-action', ...NAMED, '--action', 'Cancel'), {});
    const { exitCode, stderr } = await running;
    assert.equal(exitCode, 1, stderr);
    assert.match(stderr, /cancel/i);
    const { properties } = await resource('show', '--ids', templateId('web'));
    assert.equal(properties.lastRunStatus.runState, 'Canceled');
    await az.fails(1, /is not allowed/, 'resource', 'invoke-action', ...NAMED, '--action', 'Cancel');
    await az.fails(1, /\S/, 'resource', 'invoke-action', ...NAMED, '--action', 'Dance');
  });

  test('triggers: create, show, list, delete', async () => {
    const child = ['-g', GROUP, '--namespace', 'Microsoft.VirtualMachineImages', '--parent', 'imageTemplates/web'];
    const version = ['--api-version', '2022-07-01'];
    const body = JSON.stringify({ location: LOCATION, properties: { kind: 'SourceImage' } });
    const made = await resource(
      ...['create', ...child, '--resource-type', 'triggers', '-n', 'newer', ...version],
      ...['--is-full-object', '--properties', body],
    );
    assert.equal(made.id.toLowerCase(), `${templateId('web')}/triggers/newer`.toLowerCase());
    assert.equal(made.type, `${TYPE}/triggers`);
    const { status, ...properties } = made.properties;
    assert.deepEqual(properties, { kind: 'SourceImage', provisioningState: 'Succeeded' });
    assert.deepEqual([status.code, status.message], ['Healthy', 'Trigger is active']);
    assert.deepEqual(await resource('show', ...child, '--resource-type', 'triggers', '-n', 'newer', ...version), made);

    const url = `${templateId('web')}/triggers?api-version=2022-07-01`;
    const { value } = await az.json('rest', '--method', 'get', '--url', url);
    assert.deepEqual(
      value.map((one: Printed) => one.name),
      ['newer'],
    );
    await az.fails(
      1,
      /SourceImage/,
      ...['resource', 'create', '--id', `${templateId('web')}/triggers/second`, ...version],
      ...['--is-full-object', '--properties', body],
    );
    await resource('delete', '--ids', `${templateId('web')}/triggers/newer`);
    await az.fails(3, /\(ResourceNotFound\)/, 'resource', 'show', '--ids', made.id, ...version);
  });

  test('delete', async () => {
    await resource('delete', '--ids', templateId('web'));
    await az.fails(3, /\(ResourceNotFound\)/, 'resource', 'show', '--ids', templateId('web'));
    assert.deepEqual(await resource('list', '--resource-type', TYPE), []);
    await az.json('group', 'delete', '-n', GROUP, '--yes', '--no-wait');
    await az.json('group', 'wait', '-n', GROUP, '--deleted', '--interval', '1', '--timeout', '60');
    await az.fails(3, /\(ResourceGroupNotFound\)/, 'resource', 'list', '-g', GROUP_ID.split('/').at(-1)!);
  });
});
