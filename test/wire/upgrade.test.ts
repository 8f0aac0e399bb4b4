/** A state directory of the version before: its database has the tables of the first two migrations, and rows as that version wrote them. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Kysely, Migrator, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import { OWNER } from '../../src/arm/role-ids.ts';
import { openEmbedded } from '../../src/database/embedded.ts';
import { SCHEMA_NAME } from '../../src/database/migrate.ts';
import * as foundation from '../../src/database/migrations/0001-foundation.ts';
import * as frontDoor from '../../src/database/migrations/0002-front-door.ts';
import { openHome } from '../../src/home.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';

const GROUP = `/subscriptions/${SUBSCRIPTION}/resourceGroups/old`;
const STAGING = `/subscriptions/${SUBSCRIPTION}/resourceGroups/IT_old_one`;
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
const GALLERY = `${GROUP}/providers/Microsoft.Compute/galleries/gallery`;
const DEFINITION = `${GALLERY}/images/definition`;
const IMAGE = `${GROUP}/providers/Microsoft.Compute/images/out`;
const ACCOUNT = `${STAGING}/providers/Microsoft.Storage/storageAccounts/0lfdz2m13umjj8k0bun8tngw`;
const TEMPLATE = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates/one`;

const created = '2026-01-02T03:04:05.000Z';
const ofImage = { osType: 'Linux', osState: 'Generalized' };
const made = { provisioningState: 'Succeeded' };
const client = { clientId: randomUUID(), principalId: randomUUID() };
const runId = randomUUID();

/** Parents first. */
const ROWS: readonly (readonly [id: string, apiVersion: string, properties: object, identity?: object])[] = [
  [`/subscriptions/${SUBSCRIPTION}`, '2025-04-01', { state: 'Enabled', displayName: 'Old' }],
  [GROUP, '2021-04-01', made],
  [STAGING, '2025-04-01', made],
  [IDENTITY, '2023-01-31', { ...client, tenantId: '00000000-0000-4000-8000-74656e616e74' }],
  [GALLERY, '2023-07-03', { identifier: { uniqueName: `${SUBSCRIPTION}-GALLERY` }, ...made }],
  [
    DEFINITION,
    '2023-07-03',
    {
      ...{ ...ofImage, architecture: 'x64', hyperVGeneration: 'V1', ...made },
      identifier: { publisher: 'p', offer: 'o', sku: 'old' },
    },
  ],
  [
    `${DEFINITION}/versions/1.0.0`,
    '2024-03-03',
    {
      ...made,
      storageProfile: { source: { id: `${GROUP}/providers/Microsoft.Compute/images/intermediate` } },
      publishingProfile: {
        ...{ replicaCount: 1, publishedDate: created, replicationMode: 'Full', excludeFromLatest: false },
        ...{ storageAccountType: 'Standard_LRS' },
        targetRegions: [{ name: 'West US', storageAccountType: 'Standard_LRS', regionalReplicaCount: 1 }],
      },
    },
  ],
  [
    IMAGE,
    '2024-03-01',
    {
      storageProfile: { osDisk: { ...ofImage, caching: 'ReadWrite', diskSizeGB: 1 } },
      hyperVGeneration: 'V1',
      ...made,
    },
  ],
  [
    ACCOUNT,
    '2025-08-01',
    {
      ...{ accessTier: 'Hot', creationTime: created, primaryLocation: 'westus', statusOfPrimary: 'available', ...made },
      ...{ minimumTlsVersion: 'TLS1_2', allowBlobPublicAccess: false, supportsHttpsTrafficOnly: true },
    },
  ],
  [
    TEMPLATE,
    '2024-02-01',
    {
      source: {
        ...{ type: 'PlatformImage', publisher: 'Canonical', offer: 'UbuntuServer', sku: '18.04-LTS' },
        ...{ version: 'latest', exactVersion: '18.4.0' },
      },
      staging: { made: true, wrote: {}, account: ACCOUNT.split('/').at(-1), replaced: {} },
      customize: [{ type: 'Shell', name: 'hello', inline: ['echo hello'] }],
      distribute: [
        { type: 'ManagedImage', imageId: IMAGE, location: 'westus', artifactTags: {}, runOutputName: 'out' },
      ],
      ...{ operation: randomUUID(), stagingResourceGroup: '', buildTimeoutInMinutes: 0, ...made },
      exactStagingResourceGroup: STAGING,
    },
    { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: client } },
  ],
];

function typeOf(id: string): string {
  const [, , , , ...rest] = id.split('/');
  if (rest.length === 0) return 'Microsoft.Resources/subscriptions';
  if (rest.length === 1) return 'Microsoft.Resources/resourceGroups';
  const [, namespace, ...path] = id.slice(id.indexOf('/providers/') + 1).split('/');
  return [namespace, ...path.filter((_, index) => index % 2 === 0)].join('/');
}

/** As the version before left it. */
async function writeOld(root: string): Promise<void> {
  const log = () => undefined;
  const server = await openEmbedded(await openHome({ home: root }), log);
  const pool = new pg.Pool({ ...server.config, options: `-c search_path=${SCHEMA_NAME},public` });
  const database = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
  try {
    const migrations = { '0001-foundation': foundation, '0002-front-door': frontDoor };
    const provider = { getMigrations: async () => migrations };
    const { error } = await new Migrator({
      ...{ db: database, provider, migrationTableSchema: SCHEMA_NAME },
    }).migrateToLatest();
    if (error) throw error;
    for (const [id, apiVersion, properties, identity] of ROWS) {
      const type = typeOf(id);
      const parent = type.split('/').length > 2 ? id.toLowerCase().split('/').slice(0, -2).join('/') : null;
      const location = id.split('/').length > 3 ? 'westus' : null;
      await sql`
        insert into resource (id, display_id, type, name, subscription, resource_group, parent_id, location, tags, identity, properties, api_version)
        values (${id.toLowerCase()}, ${id}, ${type}, ${id.split('/').at(-1)}, ${SUBSCRIPTION}, ${id.split('/')[4]?.toLowerCase() ?? null},
          ${parent}, ${location}, '{}', ${JSON.stringify(identity ?? null)}::jsonb, ${JSON.stringify(properties)}, ${apiVersion})`.execute(
        database,
      );
    }
    await sql`insert into principal (object_id, client_id, type, kind, display_name, resource_id)
      values (${client.principalId}, ${client.clientId}, 'ServicePrincipal', 'ManagedIdentity', 'builder', ${IDENTITY.toLowerCase()})`.execute(
      database,
    );
    await sql`insert into role_assignment (id, scope, display_scope, principal_id, principal_type, role_definition_id)
      values (${randomUUID()}, ${GROUP.toLowerCase()}, ${GROUP}, ${client.principalId}, 'ServicePrincipal', ${OWNER})`.execute(
      database,
    );
    const operation = randomUUID();
    await sql`insert into operation (id, kind, resource_id, status, queue, input, ended_at)
      values (${operation}, 'run', ${TEMPLATE.toLowerCase()}, 'Succeeded', 'q', '{}', now())`.execute(database);
    await sql`insert into run (id, operation_id, template_id, template_name, state, ended_at)
      values (${runId}, ${operation}, ${TEMPLATE.toLowerCase()}, 'one', 'Succeeded', now())`.execute(database);
  } finally {
    await database.destroy();
    await server.close();
  }
}

let server: TestServer;
before(async () => {
  server = await startTestServer({ prepare: writeOld });
});
after(() => server?.close());

// biome-ignore lint/suspicious/noExplicitAny: as a client reads it
const json = (answer: Answer, status = 200): any => {
  assert.equal(answer.status, status, answer.text);
  return answer.body;
};
const ask = (method: string, path: string, body?: object) =>
  server.request(method, path, { apiVersion: versionOf(path), ...(body && { body }) });
const versionOf = (path: string) =>
  ROWS.find(([id]) => path.startsWith(id) && id.length > GROUP.length + 10)?.[1] ?? '2021-04-01';

test('what the version before wrote is there, as it was', async () => {
  for (const [id, apiVersion, properties] of ROWS) {
    const read = json(await server.request('GET', id, { apiVersion }));
    assert.equal(read.id.toLowerCase(), id.toLowerCase());
    const state = (properties as { provisioningState?: string }).provisioningState;
    if (state !== undefined) assert.equal(read.properties.provisioningState, state, id);
  }
  const listed = json(await ask('GET', `${GROUP}/resources`));
  assert.equal(listed.value.length, ROWS.filter(([id]) => id.startsWith(`${GROUP}/`)).length);
  const { kysely } = server.service.database;
  assert.equal((await kysely.selectFrom('run').select('id').executeTakeFirst())?.id, runId);
  const roles = json(
    await server.request('GET', `${GROUP}/providers/Microsoft.Authorization/roleAssignments`, {
      apiVersion: '2022-04-01',
    }),
  );
  assert.ok(
    roles.value.some(
      (one: { properties: { principalId: string } }) => one.properties.principalId === client.principalId,
    ),
  );
});

test('and takes part in what is new', async () => {
  const account = json(await ask('GET', ACCOUNT));
  assert.deepEqual([account.kind, account.sku.name], ['StorageV2', 'Standard_LRS']);
  const { keys } = json(await ask('POST', `${ACCOUNT}/listKeys`));
  assert.equal(keys.length, 2);
  // Its image is gone, so its template cannot be built; but it is updated, locked, and deleted with all that it has.
  const lock = `${TEMPLATE}/providers/Microsoft.Authorization/locks/keep`;
  const put = (method: string) =>
    server.request(method, lock, {
      ...{ apiVersion: '2020-05-01', ...(method === 'PUT' && { body: { properties: { level: 'CanNotDelete' } } }) },
    });
  json(await put('PUT'), 201);
  assert.equal(json(await ask('DELETE', TEMPLATE), 409).error.code, 'ScopeLocked');
  json(await put('DELETE'));
  json(await server.settled(await ask('PATCH', `${DEFINITION}/versions/1.0.0`, { tags: { seen: 'yes' } })));
  const version = json(await ask('GET', `${DEFINITION}/versions/1.0.0`));
  assert.equal(version.tags.seen, 'yes');
  assert.equal((await server.settled(await ask('DELETE', GROUP))).status, 200);
  for (const gone of [GROUP, ACCOUNT]) assert.equal((await ask('GET', gone)).status, 404);
  assert.deepEqual(server.errors, []);
});
