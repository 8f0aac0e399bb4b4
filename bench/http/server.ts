/** A server that is measured: `kiln serve` in a process of its own, and a client that is signed in to it. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { get } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { type Answer, type Rest, restOf } from '../../test/clients/rest.ts';
import { kiln, type Running, start } from '../../test/kiln.ts';
import { postgres, rss } from '../measure.ts';

export interface TemplateContent {
  readonly tags?: object;
  readonly properties: object;
}

export interface Bench {
  /** For requests that somebody else sends. */
  readonly headers: Readonly<Record<string, string>>;
  /** URL of a group's image templates. */
  readonly templates: string;
  /** File with the certificate authority. PEM. */
  readonly caPath: string;
  /** From the start of `kiln serve` on an existing state directory to its first answer. */
  readonly startSeconds: number;
  get(url: string): Promise<unknown>;
  /** Makes a template (without anything else said, one that only says hello) and polls as clients do. @returns milliseconds until its operation has Succeeded */
  putTemplate(name: string, content?: TemplateContent): Promise<number>;
  /** Resolves when the server has taken the request to run a template. */
  askForRun(name: string): Promise<AskedRun>;
  /** Of the server. */
  readonly pid: number;
  /** MiB: RSS of the server's process; PSS of PostgreSQL's. */
  memory(): Promise<{ readonly node: number; readonly postgres: number }>;
  stop(): Promise<void>;
}

export interface AskedRun {
  /** Looks twice a second. Resolves when the run has Succeeded. */
  readonly succeeded: Promise<void>;
}

const VERSION = '2024-02-01';
const LOCATION = 'westus2';
const CONTRIBUTOR = 'b24988ac-6180-42a0-ab88-20f7382dd24c';
const SUBSCRIPTION = `/subscriptions/${LOCAL_SUBSCRIPTION}`;
const GROUP = `${SUBSCRIPTION}/resourceGroups/bench`;
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/bench`;
const TEMPLATES = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates`;
const MIB = 2 ** 20;
/** Between two looks at a run (ms). */
const OFTEN = 500;
/** What a server does right after its start is over by then (ms). */
const REST = 5_000;

export interface ServeOptions {
  /** Of `kiln serve`. */
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** A first start, whose time does not count, makes the state directory. */
export async function startBench(home: string, options: ServeOptions = {}): Promise<Bench> {
  const first = serve(home, options);
  await listening(first);
  const caPath = (await environmentOf(home)).NODE_EXTRA_CA_CERTS!;
  await end(first);

  const ca = await readFile(caPath, 'utf8');
  const begun = performance.now();
  const server = serve(home, options);
  try {
    const origin = await listening(server);
    await answers(`${origin}/metadata/endpoints?api-version=2022-09-01`, ca);
    const startSeconds = (performance.now() - begun) / 1000;
    const rest = await restOf({ origin, env: await environmentOf(home) });
    const { token } = await rest.token();
    await makeGround(rest);
    await sleep(REST);
    return {
      headers: { authorization: `Bearer ${token}` },
      templates: `${origin}${TEMPLATES}`,
      pid: server.child.pid!,
      caPath,
      startSeconds,
      async get(url) {
        const { status, body } = await rest.send('GET', url);
        if (status !== 200) throw new Error(`GET ${url}: ${status} ${JSON.stringify(body)}`);
        return body;
      },
      putTemplate: (name, content = { properties: helloOf(name) }) => putTemplate(rest, name, content),
      askForRun: name => askForRun(rest, name),
      async memory() {
        const [node, database] = [await rss(server.child.pid!), await postgres(home)];
        return { node: Math.round(node / MIB), postgres: Math.round(database / MIB) };
      },
      async stop() {
        rest.close();
        await end(server);
      },
    };
  } catch (error) {
    await end(server);
    throw error;
  }
}

const serve = (home: string, { args = [], env = {} }: ServeOptions): Running =>
  start(['--home', home, 'serve', '--port', '0', ...args], env);

const listening = async (server: Running): Promise<string> => (await server.until(/https:\/\/[^\s/]+:\d+/))[0];

/** What signs a client in. Not by the launcher: it installs node modules where it finds its own stale, and they may be a link to somebody else's. */
async function environmentOf(home: string): Promise<Readonly<Record<string, string>>> {
  const { stdout, stderr, exitCode } = await kiln(['--home', home, '--json', 'env']);
  if (exitCode !== 0) throw new Error(`kiln env ended with ${exitCode}:\n${stderr}`);
  return JSON.parse(stdout);
}

async function end(server: Running): Promise<void> {
  server.child.kill('SIGTERM');
  const { exitCode, stderr } = await server.ended;
  if (exitCode !== 0) throw new Error(`kiln serve ended with ${exitCode}:\n${stderr}`);
}

function answers(url: string, ca: string): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { ca, agent: false }, response => response.resume().once('end', resolve)).once('error', reject);
  });
}

async function makeGround(rest: Rest): Promise<void> {
  await put(rest, `${GROUP}?api-version=2024-11-01`, { location: LOCATION });
  const identity = await put(rest, `${IDENTITY}?api-version=2023-01-31`, { location: LOCATION });
  const { principalId } = (identity.body as { properties: { principalId: string } }).properties;
  const roleDefinitionId = `${SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`;
  const assignment = `${GROUP}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`;
  await put(rest, `${assignment}?api-version=2022-04-01`, { properties: { roleDefinitionId, principalId } });
}

/** Properties of a template. */
const helloOf = (name: string) => ({
  source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
  customize: [{ type: 'Shell', name: 'step', inline: ['echo hello'] }],
  distribute: [
    {
      type: 'ManagedImage',
      runOutputName: name,
      imageId: `${GROUP}/providers/Microsoft.Compute/images/${name}`,
      location: LOCATION,
    },
  ],
});

async function putTemplate(rest: Rest, name: string, content: TemplateContent): Promise<number> {
  const begun = performance.now();
  const { headers } = await put(rest, `${TEMPLATES}/${name}?api-version=${VERSION}`, {
    location: LOCATION,
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
    ...content,
  });
  await succeeded(rest, name, headers);
  return performance.now() - begun;
}

async function askForRun(rest: Rest, name: string): Promise<AskedRun> {
  const { status, headers, body } = await rest.send('POST', `${TEMPLATES}/${name}/run?api-version=${VERSION}`);
  if (status !== 202) throw new Error(`run of ${name}: ${status} ${JSON.stringify(body)}`);
  const ending = succeeded(rest, name, headers, OFTEN);
  // Told to who awaits it.
  ending.catch(() => {});
  return { succeeded: ending };
}

/** @param interval between two looks (ms). Default: what the server asks for */
async function succeeded(rest: Rest, name: string, headers: Answer['headers'], interval?: number): Promise<void> {
  for (;;) {
    const poll = await rest.send('GET', headers['azure-asyncoperation'] as string);
    if (poll.body.status === 'Succeeded') return;
    if (poll.body.status !== 'InProgress') throw new Error(`${name}: ${JSON.stringify(poll.body)}`);
    await sleep(interval ?? Number(poll.headers['retry-after']) * 1000);
  }
}

async function put(rest: Rest, path: string, body: object) {
  const answer = await rest.send('PUT', path, body);
  if (answer.status !== 200 && answer.status !== 201)
    throw new Error(`PUT ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer;
}
