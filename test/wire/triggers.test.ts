/** Triggers, runs and their logs as clients meet them: over TLS, with tokens, and with builds in which only the guest is missing. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { LOCAL_TENANT } from '../../src/arm/ids.ts';
import { lookAtTriggers } from '../../src/providers/image-builder/triggers-schedule.ts';
import { type Answer, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';
import { emptyCatalogue } from './machines.ts';

const IMAGE = 'Canonical:UbuntuServer:18.04-LTS';
const RUNS = '2026-11-01';

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer({ catalogue: { [IMAGE]: '18.4.0' } });
  ground = await makeGround(server, 'triggers');
});
after(async () => {
  await server?.close();
});

// biome-ignore lint/suspicious/noExplicitAny: as a client reads it
const json = (answer: Answer, status = 200): any => {
  assert.equal(answer.status, status, answer.text);
  return answer.body;
};

async function provisioned(name: string): Promise<string> {
  const path = ground.template(name);
  const made = await server.request('PUT', path, { apiVersion: NEWEST, body: plainTemplate(ground) });
  assert.equal(made.status, 201, made.text);
  assert.equal(json(await server.settled(made)).status, 'Succeeded');
  return path;
}

/** As `az resource create --is-full-object` sends it (az-wire 8.9). */
const BODY = { location: 'West US', properties: { kind: 'SourceImage' } };

test('a trigger goes through its life as az leads it', async () => {
  const template = await provisioned('life');
  const path = `${template}/triggers/trg`;
  const apiVersion = '2022-07-01';
  const made = await server.request('PUT', path, { apiVersion, body: BODY });
  const { id, ...rest } = json(made, 201);
  assert.match(id, /\/resourcegroups\/triggers\/.*\/imageTemplates\/life\/triggers\/trg$/);
  assert.deepEqual(rest, {
    properties: { kind: 'SourceImage', provisioningState: 'Creating' },
    name: 'trg',
    type: 'Microsoft.VirtualMachineImages/imageTemplates/triggers',
  });
  assert.match(
    String(made.headers['azure-asyncoperation']),
    /\/locations\/westus\/operations\/.*\?api-version=2022-07-01$/,
  );
  assert.equal(json(await server.settled(made)).status, 'Succeeded');

  const { properties } = json(
    await server.request('GET', path.toUpperCase().replace('/SUBSCRIPTIONS', '/subscriptions'), { apiVersion }),
  );
  assert.equal(properties.provisioningState, 'Succeeded');
  assert.equal(properties.status.code, 'Healthy');
  assert.equal(properties.status.message, 'Trigger is active');
  assert.deepEqual(
    json(await server.request('GET', `${template}/triggers`, { apiVersion })).value.map(
      (one: { name: string }) => one.name,
    ),
    ['trg'],
  );
  const second = await server.request('PUT', `${template}/triggers/other`, { apiVersion, body: BODY });
  assert.equal(json(second, 409).error.code, 'Conflict');
  const wrong = await server.request('PUT', path, { apiVersion, body: { properties: { kind: 'Timer' } } });
  assert.equal(json(wrong, 409).error.code, 'PropertyChangeNotAllowed');
  const old = await server.request('GET', path, { apiVersion: '2022-02-14' });
  assert.equal(json(old, 400).error.code, 'NoRegisteredProviderFound');

  const deleted = await server.request('DELETE', path, { apiVersion });
  assert.equal(deleted.status, 202, deleted.text);
  assert.ok(deleted.headers.location);
  assert.equal(json(await server.settled(deleted)).status, 'Succeeded');
  assert.ok([200, 204].includes((await server.request('GET', String(deleted.headers.location))).status));
  assert.equal(json(await server.request('GET', path, { apiVersion }), 404).error.code, 'ResourceNotFound');
  assert.equal((await server.request('DELETE', path, { apiVersion })).status, 204);
});

test('a newer source is built, and the run can be read to its last line', async () => {
  const template = await provisioned('watching');
  const made = await server.request('PUT', `${template}/triggers/trg`, { apiVersion: NEWEST, body: BODY });
  assert.equal(json(await server.settled(made)).status, 'Succeeded');
  const look = () =>
    lookAtTriggers(server.service.environment, { olderThanSeconds: 0, signal: AbortSignal.timeout(30_000) });
  assert.deepEqual(await look(), []);
  await emptyCatalogue(server.service.home.root, { [IMAGE]: '18.4.1' });
  const [run] = await look();
  assert.ok(run);

  const runs = `${template}/providers/Kiln.Builds/runs`;
  // Ends with the run: what is followed from its first line is whole.
  const followed = await server.request('GET', `${runs}/${run}/log`, {
    apiVersion: RUNS,
    headers: { accept: 'text/event-stream' },
  });
  assert.equal(followed.status, 200);
  assert.match(String(followed.headers['content-type']), /^text\/event-stream/);
  assert.match(followed.text, /event: end\ndata: \{"state":"Succeeded"/);
  assert.match(followed.text, /^id: 0$/m);
  assert.match(followed.text, /18\.4\.1/);
  const shown = json(await server.request('GET', `${runs}/${run}`, { apiVersion: RUNS }));
  assert.equal(shown.properties.state, 'Succeeded');
  assert.ok(shown.properties.phases.every((phase: { state: string }) => phase.state === 'Succeeded'));
  assert.equal(shown.properties.outputs.length, 1);
  const list = json(await server.request('GET', runs, { apiVersion: RUNS }));
  assert.deepEqual(
    list.value.map((one: { name: string }) => one.name),
    [run],
  );
  const text = await server.request('GET', `${runs}/${run}/log`, { apiVersion: RUNS });
  assert.match(text.text, new RegExp(`^\\[${run}\\] PACKER `));

  const { name, id } = await stagingAccount(template);
  const token = await storageToken();
  const blob = await server.request('GET', `/${name}/packerlogs/${run}/customization.log`, { token });
  assert.equal(blob.status, 200, id);
  assert.equal(blob.text, text.text);
  const logs = await server.request('GET', `/${name}/packerlogs?restype=container&comp=list`, { token });
  assert.ok(logs.text.includes(`<Name>${run}/customization.log</Name>`));
  assert.equal((await server.request('GET', `/${name}/packerlogs/${run}/customization.log`)).status, 401);

  const nobody = await server.principal('nobody');
  const refused = await server.request('GET', `${runs}/${run}/log`, { apiVersion: RUNS, token: nobody.token });
  assert.equal(json(refused, 403).error.code, 'AuthorizationFailed');
});

test('answers are what Microsoft’s files say, and nothing failed inside', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});

async function stagingAccount(template: string): Promise<{ name: string; id: string }> {
  const { properties } = json(await server.request('GET', template, { apiVersion: NEWEST }));
  const accounts = `${properties.exactStagingResourceGroup}/providers/Microsoft.Storage/storageAccounts`;
  return json(await server.request('GET', accounts, { apiVersion: '2023-05-01' })).value[0];
}

async function storageToken(): Promise<string> {
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: server.administrator.clientId,
    client_secret: server.administrator.secret,
    scope: 'https://storage.azure.com/.default',
  });
  const answer = await server.request('POST', `/${LOCAL_TENANT}/oauth2/v2.0/token`, {
    token: null,
    body: form.toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  return json(answer).access_token;
}
