/**
 * What azure-cli and the real service said to each other is said again to our server, exchange by exchange, and the answers are compared: status, headers and
 * the whole body. Neighbours (groups, identities, role assignments, galleries) are made by the same recorded requests, as far as our server has them.
 *
 * What is not compared, because it cannot be the same: GUIDs, times, the generated part of a staging group's name (masked); the host of URLs, the versions that
 * galleries give, checksums of scripts, which lie on a server of the test's own instead of the internet (translated). A poll that says InProgress may say
 * here what the recorded one said later. Errors may say more than the recorded ones: where, and what to try. Builds run, but nobody boots a guest (machines.ts).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, startTestServer, type TestServer } from '../server.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import {
  differences,
  isImageBuilder,
  masked,
  type Recorded,
  type Recording,
  readRecordings,
  recordingsDirectory,
  Words,
} from './recordings.ts';

/** Exchanges that do not match, and why. One that matches again has to leave the list. */
const KNOWN: Readonly<Record<string, string>> = {
  'test_image_builder_template_file 7':
    "the identity was in another tenant's subscription, which the recorder zeroed: with the zeroed one nothing has to be refused",
};
const GOAL = 0.95;

const ZERO = '00000000-0000-0000-0000-000000000000';
const INTERNET = 'https://raw.githubusercontent.com';
const AZURE = 'https://management.azure.com';
/** In one file the recorder zeroed the subscription in ids, and left it in a text that is none. */
const UNMASKED_SUBSCRIPTION = '0b1f6471-1bf0-4dda-aec3-cb9272f09590';

interface Compared {
  readonly name: string;
  readonly what: string;
  readonly problems: readonly string[];
}

const recordings = recordingsDirectory();

test('recorded exchanges', { skip: 'missing' in recordings && recordings.missing }, async t => {
  assert.ok('path' in recordings);
  await using stack = new AsyncDisposableStack();
  const files = await serveFiles();
  stack.defer(() => files.close());
  const server = await startTestServer({
    subscriptions: [ZERO],
    catalogue: {
      'Canonical:UbuntuServer:18.04-LTS': '18.04.201808140',
      'MicrosoftWindowsServer:WindowsServer:2019-Datacenter': '2019.0.20190214',
    },
  });
  stack.defer(() => server.close());

  const compared: Compared[] = [];
  for (const recording of readRecordings(recordings.path))
    if (recording.exchanges.some(isImageBuilder)) compared.push(...(await replay(recording, server, files)));

  const wrong = compared.filter(({ problems }) => problems.length > 0);
  for (const { name, what, problems } of compared) {
    const reason = problems.length > 0 && KNOWN[name] !== undefined ? ` (known: ${KNOWN[name]})` : '';
    t.diagnostic(`${problems.length === 0 ? 'same' : 'DIFFERS'}  ${name}  ${what}${reason}`);
    for (const problem of problems) t.diagnostic(`         ${problem}`);
  }
  const share = (compared.length - wrong.length) / compared.length;
  t.diagnostic(`${compared.length - wrong.length} of ${compared.length} are the same: ${(share * 100).toFixed(1)} %.`);

  assert.ok(compared.length > 0);
  assert.deepEqual(
    wrong.map(({ name }) => name),
    compared.map(({ name }) => name).filter(name => name in KNOWN),
    'other exchanges differ than those that are known to',
  );
  assert.ok(share >= GOAL, `${share} of the exchanges are the same; the goal is ${GOAL}`);
  assert.deepEqual(server.violations, [], "answers that are not of Microsoft's OpenAPI files");
  assert.deepEqual(server.errors, []);
});

async function replay(recording: Recording, server: TestServer, files: FileServer): Promise<Compared[]> {
  const words = new Words();
  words.set(AZURE, server.origin);
  words.set(INTERNET, files.origin);
  words.set(UNMASKED_SUBSCRIPTION, ZERO);
  for (const [recorded, url] of checksums(recording.exchanges))
    words.set(recorded, files.sha256(url.slice(INTERNET.length)));
  const groups = groupsOf(recording);
  for (const [path, location] of groups) {
    const made = await server.request('PUT', path, { apiVersion: '2021-04-01', body: { location } });
    assert.equal(made.status, 201, `${recording.name}: ${made.text}`);
  }
  const canceled = recording.exchanges.some(({ path }) => path.endsWith('/cancel'));
  // Until it has been looked at: a run that is being canceled ends at once without a machine that has to stop.
  if (canceled) server.machines.hold();
  const compared: Compared[] = [];
  for (const exchange of recording.exchanges)
    if (isImageBuilder(exchange)) compared.push(await compare(exchange, recording, words, server));
    else await makeNeighbour(exchange, words, server);
  server.machines.release();
  await quiet(server);
  for (const [path] of groups) await removeGroup(path, server);
  return compared;
}

async function compare(exchange: Recorded, recording: Recording, words: Words, server: TestServer): Promise<Compared> {
  const { name, method, path, query } = exchange;
  const shown = path.replace(/.*Microsoft\.VirtualMachineImages/i, '').replace(/[0-9a-f-]{36}$/, 'ID');
  const what = `${method} ${shown} ${query}`;
  const target = words.translate(`${path}?${query}`);
  const polled = /\/operations\/([0-9a-f-]{36})$/i.exec(path);
  const last = polled && recording.exchanges.findLast(other => other.path === path)!;
  if (last === exchange) await ended(words.translate(polled![1]!), server);
  const body = words.translateJson(exchange.body);
  const answer = await server.request(method, target, { ...(body !== undefined && { body }) });
  words.learn({ headers: exchange.headers, answer: exchange.answer }, { headers: answer.headers, answer: answer.body });
  // Ours may be done already.
  const done = last && (answer.body as { status?: string } | undefined)?.status !== 'InProgress';
  return { name, what, problems: problemsOf(done ? last : exchange, answer, words) };
}

function problemsOf(exchange: Recorded, answer: Answer, words: Words): string[] {
  const problems: string[] = [];
  if (answer.status !== exchange.status)
    problems.push(`status: recorded ${exchange.status}, ours ${answer.status} ${answer.text.slice(0, 500)}`);
  const media = (type: string | undefined) => type?.split(';')[0];
  if (media(exchange.headers['content-type']) !== media(answer.headers['content-type']))
    problems.push(...differences(exchange.headers['content-type'], answer.headers['content-type'], 'content-type'));
  for (const header of ['azure-asyncoperation', 'location', 'x-ms-failure-cause']) {
    const expected = exchange.headers[header] && words.translate(exchange.headers[header]);
    problems.push(...differences(masked(expected), masked(answer.headers[header]), header));
  }
  if (answer.status === exchange.status)
    problems.push(
      ...differences(masked(words.translateJson(exchange.answer)), masked(withoutMore(answer.body, exchange.answer))),
    );
  return problems;
}

/** An error without the members that Kiln adds to it. */
function withoutMore(ours: unknown, recorded: unknown): unknown {
  if (!hasError(ours) || !hasError(recorded)) return ours;
  const more = ['target', 'details', 'additionalInfo'].filter(member => !(member in recorded.error));
  const members = Object.entries(ours.error).filter(([member]) => !more.includes(member));
  return { ...ours, error: Object.fromEntries(members) };
}

function hasError(body: unknown): body is { readonly error: object } {
  return typeof body === 'object' && body !== null && 'error' in body && typeof body.error === 'object' && !!body.error;
}

/** Waits for an operation, where it is one of ours. */
async function ended(id: string, server: TestServer): Promise<void> {
  await server.service.engine.wait(id, { signal: AbortSignal.timeout(20_000) }).catch(() => {});
}

/** Until nothing is under way. */
async function quiet({ service }: TestServer): Promise<void> {
  const open = await service.database.kysely
    .selectFrom('operation')
    .select('id')
    .where('status', 'in', ['NotStarted', 'Running'])
    .execute();
  for (const { id } of open) await service.engine.wait(id, { signal: AbortSignal.timeout(20_000) });
}

/** What Image Builder's resources stand on. Types that our server does not have answer 404, and are passed over. */
async function makeNeighbour(exchange: Recorded, words: Words, server: TestServer): Promise<void> {
  const { method, host, path, query } = exchange;
  if (host !== 'management.azure.com' || method !== 'PUT') return;
  const body = words.translateJson(exchange.body);
  const answer = await server.request(method, words.translate(`${path}?${query}`), {
    ...(body !== undefined && { body }),
  });
  if (answer.status < 300) words.learn(exchange.answer, answer.body);
}

/** Groups that the recording finds: its test made them before the recorder ran. */
function groupsOf({ exchanges }: Recording): Map<string, string> {
  const groups = new Map<string, string>();
  for (const { method, path, answer } of exchanges)
    if (method === 'GET' && /^\/subscriptions\/[^/]+\/resourcegroups\/[^/]+$/i.test(path)) {
      const { location } = answer as { location?: string };
      if (location !== undefined) groups.set(path, location);
    }
  return groups;
}

async function removeGroup(path: string, server: TestServer): Promise<void> {
  const options = { apiVersion: '2021-04-01' };
  let answer = await server.request('DELETE', path, options);
  const until = Date.now() + 20_000;
  while (answer.status === 202 && Date.now() < until) {
    await new Promise(resolve => setTimeout(resolve, 50));
    answer = await server.request('GET', String(answer.headers.location));
  }
  assert.ok(answer.status === 200 || answer.status === 204, `${path} is not removed: ${answer.status} ${answer.text}`);
}

/** Recorded checksums with the URLs that they belong to. */
function checksums(exchanges: readonly Recorded[]): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const { scriptUri, sourceUri, sha256Checksum } = value as Record<string, unknown>;
    const url = scriptUri ?? sourceUri;
    if (typeof url === 'string' && url.startsWith(INTERNET) && typeof sha256Checksum === 'string' && sha256Checksum)
      found.set(sha256Checksum, url);
    for (const member of Object.values(value)) visit(member);
  };
  for (const { answer } of exchanges) visit(answer);
  return found;
}
