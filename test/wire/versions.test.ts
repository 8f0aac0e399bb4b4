/** A template's whole life in every api-version: each knows what it knew then, and says nothing of what came later. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, plainTemplate, TEMPLATES } from './ground.ts';
import { API_VERSIONS } from './templates.ts';

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'versions');
});
after(() => server?.close());

interface Template {
  readonly properties: Record<string, unknown> & { readonly source: Record<string, unknown> };
  readonly [member: string]: unknown;
}

for (const apiVersion of API_VERSIONS)
  test(`a template's life in ${apiVersion}`, async () => {
    const name = `t${apiVersion}`;
    const path = ground.template(name);
    const call = async (method: string, target: string, status: number, body?: unknown): Promise<Answer> => {
      const answer = await server.request(method, target, { apiVersion, ...(body !== undefined && { body }) });
      assert.equal(answer.status, status, `${method} ${target}: ${answer.text}`);
      return answer;
    };
    const succeeded = async (answer: Answer) => {
      const { body } = await server.settled(answer);
      assert.equal((body as { status: string }).status, 'Succeeded', JSON.stringify(body));
    };
    const names = (answer: Answer) => (answer.body as { value: { name: string }[] }).value.map(one => one.name);

    await succeeded(await call('PUT', path, 201, plainTemplate(ground)));
    const template = (await call('GET', path, 200)).body as Template;
    const { properties } = template;
    assert.equal(properties.provisioningState, 'Succeeded');
    assert.equal('exactVersion' in properties.source, apiVersion >= '2021-10-01');
    assert.equal('exactStagingResourceGroup' in properties, apiVersion >= '2022-02-14');
    assert.equal('lastRunStatus' in properties, false);

    assert.deepEqual(names(await call('GET', `${ground.group}/${TEMPLATES}`, 200)), [name]);
    assert.ok(names(await call('GET', `/subscriptions/${SUBSCRIPTION}/${TEMPLATES}`, 200)).includes(name));
    await succeeded(await call('PATCH', path, 202, { tags: { a: 'b' } }));
    if (apiVersion >= '2023-07-01')
      await succeeded(
        await call('PATCH', path, 202, { properties: { distribute: [...distributors(properties), VHD] } }),
      );
    if (apiVersion >= '2024-02-01')
      await succeeded(await call('PATCH', path, 202, { properties: { vmProfile: { vmSize: 'Standard_D2s_v3' } } }));

    await succeeded(await call('POST', `${path}/run`, 202));
    const ran = (await call('GET', path, 200)).body as Template;
    assert.equal((ran.properties.lastRunStatus as { runState: string }).runState, 'Succeeded');
    assert.deepEqual(ran.tags, { a: 'b' });
    const outputs = apiVersion >= '2023-07-01' ? ['extra', 'out'] : ['out'];
    assert.deepEqual(names(await call('GET', `${path}/runOutputs`, 200)).sort(), outputs);
    for (const output of outputs) await call('GET', `${path}/runOutputs/${output}`, 200);
    await call('GET', `${path}/runOutputs/none`, 404);

    if (apiVersion >= '2020-02-14') {
      server.machines.hold();
      const second = await call('POST', `${path}/run`, 202);
      await call('POST', `${path}/cancel`, 204);
      server.machines.release();
      assert.equal(((await server.settled(second)).body as { status: string }).status, 'Canceled');
    }

    if (apiVersion >= '2022-07-01') {
      const trigger = `${path}/triggers/source`;
      await succeeded(await call('PUT', trigger, 201, { properties: { kind: 'SourceImage' } }));
      const { properties: state } = (await call('GET', trigger, 200)).body as Template;
      assert.equal((state.status as unknown as { code: string }).code, 'Healthy');
      assert.deepEqual(names(await call('GET', `${path}/triggers`, 200)), ['source']);
      await server.settled(await call('DELETE', trigger, 202));
      await call('DELETE', trigger, 204);
    } else await call('GET', `${path}/triggers`, 400);

    const operations = await server.request('GET', '/providers/Microsoft.VirtualMachineImages/operations', {
      apiVersion,
    });
    assert.equal(operations.status, 200, operations.text);
    await server.settled(await call('DELETE', path, 202));
    await call('DELETE', path, 204);
  });

const VHD = { type: 'VHD', runOutputName: 'extra' };

function distributors({ distribute }: Record<string, unknown>): unknown[] {
  return distribute as unknown[];
}

test("every answer was of Microsoft's OpenAPI files, all of whose operations were seen, and nothing failed inside", t => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
  if (!server.contract) return t.skip("Microsoft's OpenAPI files are not there.");
  const { operations, covered } = server.contract;
  const versions: readonly string[] = API_VERSIONS;
  const wanted = operations.filter(
    name => name.includes('/Microsoft.VirtualMachineImages/') && versions.includes(name.split(' ')[0]!),
  );
  assert.ok(wanted.length > 80, `${wanted.length} operations`);
  assert.deepEqual(
    wanted.filter(name => !covered.has(name)),
    [],
    'operations of which no answer was judged',
  );
});
