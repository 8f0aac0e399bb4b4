/**
 * The front door under load: requests a second and latency of GET, a list of 1,000 templates, PUT until Succeeded, memory at rest. Writes bench/HTTP.md.
 * The server is the real one (`kiln serve`, TLS, PostgreSQL) in a process of its own; the load comes from this one, on the same processors.
 *
 *     node_modules/.bin/node bench/http/run.ts [--seconds 10]
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:https';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import { run } from '../../src/processes/process.ts';
import { median } from '../measure.ts';
import { type Bench, startBench } from './server.ts';

const { values: options } = parseArgs({ options: { seconds: { type: 'string', default: '10' } } });
const SECONDS = Number(options.seconds);
const CLIENTS = 50;
const TEMPLATES = 1000;
const VERSION = '2024-02-01';
/** Between two requests of one client that polls (ms). */
const INTERVAL = 100;

const home = await mkdtemp(join(tmpdir(), 'kiln-bench-http-'));
await run('chmod', ['0711', home]);
const bench = await startBench(home);
try {
  const idle = await bench.memory();
  const put = await putAll(bench);
  const url = (n: number) => `${bench.templates}/t${n}?api-version=${VERSION}`;
  // The first seconds are those of the compiler.
  await load(bench, { url: url(1), seconds: 3, clients: CLIENTS });
  const one = await load(bench, { url: url(1), seconds: SECONDS, clients: CLIENTS });
  const paced = await poll(bench, { url: url(1), seconds: SECONDS, clients: CLIENTS });
  const page = await load(bench, {
    url: `${bench.templates}?api-version=${VERSION}`,
    seconds: SECONDS,
    clients: CLIENTS,
  });
  const whole = await listAll(bench);
  const loaded = await bench.memory();
  const text = `# The front door under load

Written by \`bench/http/run.ts\` on ${new Date().toISOString().slice(0, 10)}. ${cpus()[0]!.model.trim()}, ${cpus().length} processors, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.version};
server, PostgreSQL and load generator (autocannon, ${CLIENTS} connections, TLS) share the machine.

| | requests a second | p50, ms | p97.5, ms | p99, ms | refused (429) | errors |
|---|---|---|---|---|---|---|
| GET of a template, as fast as it goes | ${row(one)} |
| GET of a template, ${CLIENTS} clients, each 10 a second | ${paced} |
| a page of 100 templates, as fast as it goes | ${row(page)} |

| | |
|---|---|
| ${TEMPLATES} templates, ${CLIENTS} at a time, PUT until Succeeded: each, median and worst | ${put.many.median.toFixed(0)} ms, ${put.many.worst.toFixed(0)} ms |
| one template alone, PUT until Succeeded, median of ${put.alone.count} | ${put.alone.median.toFixed(0)} ms |
| the whole list of ${TEMPLATES} templates, page by page, median of 5 | ${whole.toFixed(0)} ms |
| memory at rest after the start: Node, PostgreSQL | ${idle.node} MiB, ${idle.postgres} MiB |
| memory after the load | ${loaded.node} MiB, ${loaded.postgres} MiB |
| \`kiln serve\` to its first answer, existing state directory | ${bench.startSeconds.toFixed(2)} s |
`;
  await writeFile(join(import.meta.dirname, '../HTTP.md'), text);
  console.log(text);
} finally {
  await bench.stop();
  await rm(home, { recursive: true, force: true });
}

interface Load {
  readonly url: string;
  readonly seconds: number;
  readonly clients: number;
}

async function load(server: Bench, { url, seconds, clients }: Load): Promise<autocannon.Result> {
  return await autocannon({
    url,
    connections: clients,
    duration: seconds,
    headers: server.headers,
    tlsOptions: { ca: await readFile(server.caPath, 'utf8') },
  });
}

/**
 * Fifty people or pipelines that look again and again, each ten times a second on a connection of its own, out of step with the others. autocannon's own
 * rates come in bursts, at the beginning of each second. Times count from when a request was due.
 */
async function poll(server: Bench, { url, seconds, clients }: Load): Promise<string> {
  const agent = new Agent({ ca: await readFile(server.caPath, 'utf8'), keepAlive: true, maxSockets: clients });
  const times: number[] = [];
  let errors = 0;
  const ask = () =>
    new Promise<number>((resolve, reject) => {
      const sent = get(url, { agent, headers: server.headers }, answer =>
        answer.resume().once('end', () => resolve(answer.statusCode!)),
      );
      sent.once('error', reject);
    });
  const begun = performance.now();
  const client = async (phase: number) => {
    for (let due = begun + phase; due < begun + seconds * 1000; due += INTERVAL) {
      await sleep(Math.max(0, due - performance.now()));
      if ((await ask()) !== 200) errors++;
      times.push(performance.now() - due);
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, n) => client((n * INTERVAL) / clients)));
  agent.destroy();
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)]!.toFixed(1);
  return [(times.length / seconds).toFixed(0), at(0.5), at(0.975), at(0.99), 0, errors].join(' | ');
}

/** Its types do not know of the statuses. The server refuses with 429 what one caller sends beyond its limit. */
function row(result: autocannon.Result): string {
  const { requests, latency, non2xx, errors } = result;
  const { statusCodeStats } = result as { statusCodeStats?: Readonly<Record<string, { readonly count: number }>> };
  const refused = statusCodeStats?.['429']?.count ?? 0;
  const times = [latency.p50, latency.p97_5, latency.p99];
  return [requests.average.toFixed(0), ...times, refused, non2xx + errors - refused].join(' | ');
}

async function putAll(server: Bench) {
  const alone: number[] = [];
  for (let n = 0; n < 20; n++) alone.push(await server.putTemplate(`alone${n}`));
  const many: number[] = [];
  const names = Array.from({ length: TEMPLATES - alone.length }, (_, n) => `t${n}`);
  const worker = async () => {
    for (let name = names.pop(); name !== undefined; name = names.pop()) many.push(await server.putTemplate(name));
  };
  await Promise.all(Array.from({ length: CLIENTS }, worker));
  return {
    alone: { count: alone.length, median: median(alone) },
    many: { median: median(many), worst: Math.max(...many) },
  };
}

async function listAll(server: Bench): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < 5; n++) {
    const begun = performance.now();
    let seen = 0;
    for (let url: string | undefined = `${server.templates}?api-version=${VERSION}`; url; ) {
      const page = (await server.get(url)) as { value: unknown[]; nextLink?: string };
      seen += page.value.length;
      url = page.nextLink;
    }
    if (seen !== TEMPLATES) throw new Error(`the list has ${seen} templates`);
    times.push(performance.now() - begun);
  }
  return median(times);
}
