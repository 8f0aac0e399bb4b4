/**
 * Microsoft's own client library for JavaScript (@azure/arm-imagebuilder 5, api-version 2025-10-01) as an independent client: every operation it has, its
 * pollers, its iterators over pages, its errors. The server takes up no builds: a run stays queued until it is canceled.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import {
  ImageBuilderClient,
  type ImageTemplate,
  isRestError,
  RestError,
  type RunOutput,
  restorePoller,
  type Trigger,
} from '@azure/arm-imagebuilder';
import type { TokenCredential } from '@azure/core-auth';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { type Rest, restOf } from './rest.ts';
import { type Served, serve } from './served.ts';
import { definitionId, GROUP, GROUP_ID, IDENTITY_ID, imageId, LOCATION, SOURCE, templateId } from './templates.ts';

const CONTRIBUTOR = 'b24988ac-6180-42a0-ab88-20f7382dd24c';
const TYPE = 'Microsoft.VirtualMachineImages/imageTemplates';
/** More than a page. */
const MANY = 120;

const template = (name: string): ImageTemplate => ({
  location: LOCATION,
  identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY_ID]: {} } },
  source: { ...SOURCE },
  customize: [{ type: 'Shell', name: 'step', inline: ['echo hello'] }],
  distribute: [{ type: 'ManagedImage', runOutputName: name, imageId: imageId(name), location: LOCATION }],
});

describe('@azure/arm-imagebuilder', () => {
  let served: Served;
  let rest: Rest;
  let client: ImageBuilderClient;
  let asked: string[];

  const clientOf = (credential: TokenCredential) =>
    new ImageBuilderClient(credential, LOCAL_SUBSCRIPTION, {
      endpoint: served.origin,
      tlsOptions: { ca: rest.ca },
      retryOptions: { maxRetries: 0 },
    });
  const templates = () => client.virtualMachineImageTemplates;
  const put = async (path: string, version: string, body: object) => {
    const answer = await rest.send('PUT', `${path}?api-version=${version}`, body);
    assert.ok([200, 201].includes(answer.status), JSON.stringify(answer.body));
    return answer.body;
  };

  before(async () => {
    served = await serve(['--workers', '0']);
    rest = await restOf(served);
    asked = [];
    client = clientOf(adminOf());
    await put(GROUP_ID, '2024-11-01', { location: LOCATION });
    const identity = await put(IDENTITY_ID, '2023-01-31', { location: LOCATION });
    await put(`${GROUP_ID}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`, '2022-04-01', {
      properties: {
        roleDefinitionId: `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`,
        principalId: identity.properties.principalId,
      },
    });
    const compute = `${GROUP_ID}/providers/Microsoft.Compute/galleries/gallery`;
    await put(compute, '2021-10-01', { location: LOCATION });
    await put(`${compute}/images/web`, '2021-10-01', {
      location: LOCATION,
      properties: {
        osType: 'Linux',
        osState: 'Generalized',
        hyperVGeneration: 'V2',
        identifier: { publisher: 'Example', offer: 'web', sku: '12' },
      },
    });
  });
  after(async () => {
    rest?.close();
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  test('operations.list', async () => {
    const names = (await collect(client.operations.list())).map(({ name }) => name);
    for (const verb of ['read', 'write', 'delete', 'run/action', 'cancel/action', 'triggers/write'])
      assert.ok(names.includes(`${TYPE}/${verb}`), verb);
    assert.deepEqual(asked, ['https://management.azure.com/.default']);
  });

  test('createOrUpdate: its poller ends with the template', async () => {
    const states: (string | undefined)[] = [];
    const poller = templates().createOrUpdate(GROUP, 'web', {
      ...template('web'),
      tags: { team: 'web' },
      vmProfile: { vmSize: 'Standard_D2s_v3', osDiskSizeGB: 8 },
      validate: { inVMValidations: [{ type: 'Shell', name: 'check', inline: ['true'] }] },
      errorHandling: { onCustomizerError: 'abort' },
      autoRun: { state: 'Disabled' },
      managedResourceTags: { cost: '42' },
      buildTimeoutInMinutes: 30,
    });
    poller.onProgress(({ status }) => states.push(status));
    const made = await poller.pollUntilDone();
    assert.equal(states.at(-1), 'succeeded');
    assert.equal(made.id?.toLowerCase(), templateId('web').toLowerCase());
    assert.deepEqual(
      [made.name, made.type, made.location, made.provisioningState, made.tags],
      ['web', TYPE, LOCATION, 'Succeeded', { team: 'web' }],
    );
    assert.deepEqual([made.buildTimeoutInMinutes, made.autoRun], [30, { state: 'Disabled' }]);
    assert.deepEqual(made.errorHandling?.onCustomizerError, 'abort');
    assert.deepEqual(made.managedResourceTags, { cost: '42' });
    assert.equal(made.vmProfile?.osDiskSizeGB, 8);
    const [validator] = made.validate?.inVMValidations ?? [];
    assert.deepEqual([validator?.type, validator?.name], ['Shell', 'check']);
    assert.match(made.exactStagingResourceGroup!, /\/resourceGroups\/IT_clients_web_[0-9a-f-]{36}$/);
    const [identity] = Object.values(made.identity.userAssignedIdentities ?? {});
    assert.match(identity?.principalId ?? '', /^[0-9a-f-]{36}$/);
    assert.deepEqual(await templates().get(GROUP, 'web'), made);
  });

  test('createOrUpdate, its poller handed from one process to another', async () => {
    const poller = templates().createOrUpdate(GROUP, 'handed', template('handed'));
    await poller.submitted();
    const text = await poller.serialize();
    const restored = restorePoller(clientOf(adminOf()), text, client.virtualMachineImageTemplates.createOrUpdate);
    const made = (await restored.pollUntilDone()) as ImageTemplate;
    assert.deepEqual([made.name, made.provisioningState], ['handed', 'Succeeded']);
    await poller.pollUntilDone();
  });

  test('update: tags, identity, targets, size of the machine', async () => {
    const update = (parameters: Parameters<ReturnType<typeof templates>['update']>[2]) =>
      templates().update(GROUP, 'web', parameters).pollUntilDone();
    assert.deepEqual((await update({ tags: { a: '1', b: '2' } })).tags, { a: '1', b: '2' });
    assert.equal((await update({ identity: { type: 'None' } })).identity.type, 'None');
    const identity = { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY_ID]: {} } } as const;
    assert.equal((await update({ identity })).identity.type, 'UserAssigned');
    const sized = await update({ properties: { vmProfile: { vmSize: 'Standard_D4s_v3', osDiskSizeGB: 16 } } });
    assert.deepEqual([sized.vmProfile?.vmSize, sized.vmProfile?.osDiskSizeGB], ['Standard_D4s_v3', 16]);
    const added = {
      type: 'SharedImage' as const,
      runOutputName: 'version',
      galleryImageId: definitionId('gallery', 'web'),
      targetRegions: [{ name: LOCATION, replicaCount: 1, storageAccountType: 'Standard_LRS' }],
      versioning: { scheme: 'Latest' as const, major: 2 },
    };
    const distributed = await update({ properties: { distribute: [...template('web').distribute!, added] } });
    const last = JSON.parse(JSON.stringify(distributed.distribute?.[1]));
    assert.deepEqual(last.targetRegions, added.targetRegions);
    assert.deepEqual(last.versioning, added.versioning);
    await refused(
      update({ properties: { distribute: [added] } }),
      400,
      'ValidationFailed',
      /Runoutput name web not found/,
    );
    assert.deepEqual((await templates().get(GROUP, 'web')).tags, { a: '1', b: '2' });
  });

  test('errors: status, code and message', async () => {
    await refused(templates().get(GROUP, 'nope'), 404, 'ResourceNotFound', /imageTemplates\/nope/);
    await refused(collect(templates().listByResourceGroup('nope')), 404, 'ResourceGroupNotFound');
    const again = templates().createOrUpdate(GROUP, 'web', template('web'));
    await refused(again.pollUntilDone(), 409, 'Conflict', /Update\/Upgrade of image templates/);
    const bare = { ...template('bad'), distribute: [{ type: 'ManagedImage' as const, runOutputName: 'bad' }] };
    const wrong = templates().createOrUpdate(GROUP, 'bad', bare as never);
    await refused(wrong.pollUntilDone(), 400, 'ValidationFailed', /distribute\[0\]/);
    const badName = templates().createOrUpdate(GROUP, 'no spaces', template('bad'));
    await refused(badName.pollUntilDone(), 400, undefined, /no spaces/);

    const forged = { getToken: async () => ({ token: 'e30.e30.e30', expiresOnTimestamp: Date.now() + 60_000 }) };
    await refused(clientOf(forged).virtualMachineImageTemplates.get(GROUP, 'web'), 401, 'InvalidAuthenticationToken');
    const other = new ImageBuilderClient(adminOf(), randomUUID(), {
      endpoint: served.origin,
      tlsOptions: { ca: rest.ca },
    });
    await refused(collect(other.virtualMachineImageTemplates.list()), 404, 'SubscriptionNotFound');
  });

  test('run, cancel', async () => {
    const running = templates().run(GROUP, 'web');
    await running.submitted();
    const { lastRunStatus } = await templates().get(GROUP, 'web');
    assert.deepEqual([lastRunStatus?.runState, lastRunStatus?.runSubState], ['Running', 'Queued']);
    assert.ok(Math.abs(Date.now() - lastRunStatus!.startTime!.getTime()) < 60_000);
    await refused(templates().run(GROUP, 'web').pollUntilDone(), 405, 'OperationNotAllowed');
    await refused(templates().delete(GROUP, 'web').pollUntilDone(), 405, 'OperationNotAllowed', /run state: running/);
    await templates().cancel(GROUP, 'web').pollUntilDone();
    await assert.rejects(running.pollUntilDone(), /cancel/i);
    assert.equal((await templates().get(GROUP, 'web')).lastRunStatus?.runState, 'Canceled');
    await refused(templates().cancel(GROUP, 'web').pollUntilDone(), 405, 'OperationNotAllowed');
  });

  test('listRunOutputs, getRunOutput', async () => {
    assert.deepEqual(await collect<RunOutput>(templates().listRunOutputs(GROUP, 'web')), []);
    await refused(templates().getRunOutput(GROUP, 'web', 'web'), 404, 'ResourceNotFound', /runOutputs\/web/);
    await refused(collect(templates().listRunOutputs(GROUP, 'nope')), 404, 'ResourceNotFound');
  });

  test('triggers: createOrUpdate, get, list, delete', async () => {
    const { triggers } = client;
    const properties = { kind: 'SourceImage' as const };
    const made = await triggers.createOrUpdate(GROUP, 'web', 'newer', { properties }).pollUntilDone();
    assert.deepEqual([made.name, made.type], ['newer', `${TYPE}/triggers`]);
    assert.deepEqual([made.properties?.kind, made.properties?.provisioningState], ['SourceImage', 'Succeeded']);
    assert.deepEqual(
      [made.properties?.status?.code, made.properties?.status?.message],
      ['Healthy', 'Trigger is active'],
    );
    assert.ok(made.properties?.status?.time instanceof Date);
    assert.deepEqual(await triggers.get(GROUP, 'web', 'newer'), made);
    assert.deepEqual(await collect<Trigger>(triggers.listByImageTemplate(GROUP, 'web')), [made]);
    const second = triggers.createOrUpdate(GROUP, 'web', 'second', { properties });
    await refused(second.pollUntilDone(), undefined, undefined, /SourceImage/);
    const other = triggers.createOrUpdate(GROUP, 'handed', 'other', { properties: { kind: 'Moon' } });
    await refused(other.pollUntilDone(), 400, undefined, /kind/);
    await refused(triggers.get(GROUP, 'web', 'nope'), 404, 'ResourceNotFound');
    await triggers.delete(GROUP, 'web', 'newer').pollUntilDone();
    assert.deepEqual(await collect(triggers.listByImageTemplate(GROUP, 'web')), []);
    await triggers.delete(GROUP, 'web', 'newer').pollUntilDone();
  });

  test('lists go on over pages', async () => {
    const names = Array.from({ length: MANY }, (_, n) => `many-${String(n).padStart(3, '0')}`);
    for (let at = 0; at < MANY; at += 40)
      await Promise.all(
        names.slice(at, at + 40).map(name => templates().createOrUpdate(GROUP, name, template(name)).pollUntilDone()),
      );
    const expected = [...names, 'handed', 'web'].sort();
    const pages: number[] = [];
    for await (const page of templates().listByResourceGroup(GROUP).byPage()) pages.push(page.length);
    assert.ok(pages.length > 1, `one page of ${pages[0]}`);
    for (const items of [templates().listByResourceGroup(GROUP), templates().list()]) {
      const all = await collect(items);
      assert.deepEqual(all.map(({ name }) => name).sort(), expected);
      assert.ok(all.every(({ provisioningState }) => provisioningState === 'Succeeded'));
    }
    const { value } = await templates().list().byPage().next();
    const rest = [];
    for await (const page of templates().list().byPage({ continuationToken: value.continuationToken }))
      rest.push(...page);
    assert.equal(value.length + rest.length, expected.length);
  });

  test('delete: gone, again no error', async () => {
    const { exactStagingResourceGroup } = await templates().get(GROUP, 'web');
    await templates().delete(GROUP, 'web').pollUntilDone();
    await refused(templates().get(GROUP, 'web'), 404, 'ResourceNotFound');
    await templates().delete(GROUP, 'web').pollUntilDone();
    const group = await rest.send('GET', `${exactStagingResourceGroup}?api-version=2024-11-01`);
    assert.equal(group.status, 404);
  });

  function adminOf(): TokenCredential {
    return {
      async getToken(scopes) {
        asked.push([scopes].flat().join(' '));
        return await rest.credential.getToken(scopes);
      },
    };
  }
});

/** Asserts the error that the library makes of an answer; `undefined`: any. */
async function refused(
  promise: PromiseLike<unknown>,
  status: number | undefined,
  code?: string,
  said = /\S/,
): Promise<RestError> {
  let thrown: unknown;
  try {
    await promise;
  } catch (error) {
    thrown = error;
  }
  assert.ok(isRestError(thrown), `not refused: ${thrown}`);
  assert.ok(thrown instanceof RestError);
  assert.match(thrown.message, said);
  if (status !== undefined) assert.equal(thrown.statusCode, status, thrown.message);
  if (code !== undefined) assert.equal(thrown.code, code, thrown.message);
  return thrown;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
