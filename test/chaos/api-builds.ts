/** Builds through the API of a `kiln serve` of the test's own, by plain HTTPS. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { type Rest, restOf } from '../clients/rest.ts';
import { clientEnvironment } from '../clients/served.ts';
import { type Running, start } from '../kiln.ts';
import { QUICK_SOURCE } from './quick-guest.ts';

const GROUP = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/chaos`;
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
const CONTRIBUTOR = 'b24988ac-6180-42a0-ab88-20f7382dd24c';
export const LOCATION = 'westeurope';
export const VERSION = 'api-version=2024-02-01';

export interface Server {
  readonly running: Running;
  readonly rest: Rest;
}

export async function serve(home: string, env: NodeJS.ProcessEnv, args: readonly string[] = []): Promise<Server> {
  const running = start(['--home', home, 'serve', '--port', '0', ...args], env);
  const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  return { running, rest: await restOf({ origin, env: await clientEnvironment(home) }) };
}

export async function end({ running, rest }: Server, signal: NodeJS.Signals): Promise<void> {
  rest.close();
  running.child.kill(signal);
  await running.ended;
}

export async function ok(rest: Rest, method: string, path: string, body?: unknown) {
  const answer = await rest.send(method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer;
}

/** What a template needs before it can be made: a group, an identity, a role for it. */
export async function layGround(rest: Rest): Promise<void> {
  await ok(rest, 'PUT', `${GROUP}?api-version=2021-04-01`, { location: LOCATION });
  const identity = await ok(rest, 'PUT', `${IDENTITY}?api-version=2023-01-31`, { location: LOCATION });
  const { principalId } = identity.body.properties;
  const assignment = `${GROUP}/providers/Microsoft.Authorization/roleAssignments/${principalId}?api-version=2022-04-01`;
  const roleDefinitionId = `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`;
  const assigned = await rest.send('PUT', assignment, {
    properties: { roleDefinitionId, principalId, principalType: 'ServicePrincipal' },
  });
  assert.ok([200, 201, 409].includes(assigned.status), JSON.stringify(assigned.body));
}

/** Makes (or, where the server lets it, replaces) a template of the quick guest. @returns its id, Succeeded */
export async function putTemplate(rest: Rest, name: string, properties: object): Promise<string> {
  const id = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates/${name}`;
  await ok(rest, 'PUT', `${id}?${VERSION}`, {
    location: LOCATION,
    tags: { 'kiln.bootProof': 'off' },
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
    properties: {
      vmProfile: { vmSize: 'Standard_B1ms' },
      source: QUICK_SOURCE,
      distribute: [{ type: 'VHD', runOutputName: `${name}-vhd` }],
      ...properties,
    },
  });
  const made = async () => (await ok(rest, 'GET', `${id}?${VERSION}`)).body.properties;
  await until(async () => !/^(Creating|Updating)$/.test((await made()).provisioningState));
  const end = await made();
  assert.equal(end.provisioningState, 'Succeeded', JSON.stringify(end));
  return id;
}

/** @returns the run's id */
export async function beginRun(rest: Rest, id: string): Promise<string> {
  const answer = await ok(rest, 'POST', `${id}/run?${VERSION}`);
  assert.equal(answer.status, 202);
  return /operations\/([0-9a-f-]{36})/.exec(String(answer.headers['azure-asyncoperation']))![1]!;
}

export async function logOf(rest: Rest, id: string, runId: string): Promise<string> {
  const answer = await rest.send('GET', `${id}/providers/Kiln.Builds/runs/${runId}/log?api-version=2026-11-01`);
  return answer.status === 200 ? String(answer.body ?? '') : '';
}

export const lastRun = async (rest: Rest, id: string) =>
  (await ok(rest, 'GET', `${id}?${VERSION}`)).body.properties.lastRunStatus as Record<string, string>;

/** Fails with the test, at its timeout. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(250);
}
