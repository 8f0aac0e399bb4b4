/**
 * Kiln.Builds/runs on an image template: every run of it, phase by phase, and its log while it grows. Azure shows only the newest run, in one sentence, and
 * has its log in a storage account.
 */
import { KilnError } from '../../arm/errors.ts';
import { isIdOf } from '../../arm/ids.ts';
import type { RunRow } from '../../database/schema.ts';
import type { ExtensionAnswer, ExtensionCall, ExtensionProvider } from '../extension.ts';
import { buildLinks, identityIds } from '../image-builder/links.ts';
import { startRun } from '../image-builder/run.ts';
import type { TemplateIdentity } from '../image-builder/schema.ts';
import { TEMPLATE_TYPE } from '../image-builder/validate.ts';
import { requireResource } from '../life.ts';
import { requireLinkedAccess } from '../linked-access.ts';
import type { StoredResource } from '../store.ts';
import { followLog, logText } from './run-log.ts';
import { runView } from './run-view.ts';

const PAGE = 50;
const MOST = 500;

export const runsExtension: ExtensionProvider = Object.freeze({
  namespace: 'Kiln.Builds',
  type: 'runs',
  apiVersions: Object.freeze(['2026-11-01']),
  permission: ({ method }: Pick<ExtensionCall, 'method'>) => (method === 'GET' || method === 'HEAD' ? 'read' : 'write'),
  handle,
} satisfies ExtensionProvider);

async function handle(call: ExtensionCall): Promise<ExtensionAnswer> {
  const { method, scope, segments } = call;
  const retries = method === 'POST' && segments.length === 2 && segments[1]!.toLowerCase() === 'retry';
  if (method !== 'GET' && method !== 'HEAD' && !retries)
    throw new KilnError('MethodNotAllowed', `The verb ${method} is not supported for 'Kiln.Builds/runs'.`, {
      hint: 'Begin and end runs at the template: POST …/run and …/cancel. POST …/runs/ID/retry distributes again.',
    });
  if (!isIdOf(scope, TEMPLATE_TYPE))
    throw new KilnError('NotFound', `Runs belong to an image template; '${scope || '/'}' is none.`, {
      hint: `GET …/providers/${TEMPLATE_TYPE}/NAME/providers/Kiln.Builds/runs`,
    });
  const template = await requireResource(call.environment.database, scope);
  const [id, part, ...more] = segments;
  if (retries) return await retry(call, template, await requireRun(call, template, id!));
  if (id === undefined) return { status: 200, body: await list(call, template) };
  if (more.length > 0 || (part !== undefined && part.toLowerCase() !== 'log'))
    throw new KilnError('NotFound', `A run has a log, and no '${segments.slice(1).join('/')}'.`);
  const run = await requireRun(call, template, id);
  if (part === undefined) return { status: 200, body: await show(call, template, run) };
  if (method === 'HEAD') return { status: 200 };
  return await log(call, run.id);
}

/** 202, and the operation of the new run. Whoever may run the template may. Errors: LinkedAuthorizationFailed, Conflict, RunInProgress. */
async function retry(call: ExtensionCall, template: StoredResource, run: RunRow): Promise<ExtensionAnswer> {
  const { engine, database, machines } = call.environment;
  // For a template without identity its caller answers, as for a run.
  const acts = identityIds(template.identity as TemplateIdentity | undefined).length > 0;
  const links = acts ? [] : buildLinks(template.properties as never);
  const runs = { path: 'id', action: `${TEMPLATE_TYPE}/run/action`, scope: template.id };
  await requireLinkedAccess(call, { action: 'Kiln.Builds/runs/write', scope: template.id }, [runs, ...links]);
  const options = { where: 'anywhere', machines, retry: run.id, caller: call.caller.objectId } as const;
  const id = await startRun(engine, database, template.id, options);
  return { status: 202, operation: { id, location: template.location! } };
}

/** Runs of a deleted template with the same name are not this one's. */
const runsOf = ({ environment: { database } }: ExtensionCall, template: StoredResource) =>
  database
    .selectFrom('run')
    .selectAll()
    .where('template_id', '=', template.id.toLowerCase())
    .where('created_at', '>=', template.createdAt);

const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

async function requireRun(call: ExtensionCall, template: StoredResource, id: string): Promise<RunRow> {
  const run = GUID.test(id)
    ? await runsOf(call, template).where('id', '=', id.toLowerCase()).executeTakeFirst()
    : undefined;
  if (run) return run;
  throw new KilnError('NotFound', `The image template '${template.name}' has no run '${id}'.`, {
    hint: 'GET …/providers/Kiln.Builds/runs lists them.',
  });
}

/** Newest first. */
async function list(call: ExtensionCall, template: StoredResource) {
  const { query, origin, scope } = call;
  const size = Math.min(wholeNumber(query.get('$top'), '$top', PAGE), MOST);
  const token = query.get('$skipToken') ?? query.get('$skiptoken');
  const after = token === null ? undefined : await requireRun(call, template, token);
  const runs = await runsOf(call, template)
    .$if(after !== undefined, rows =>
      // Compared in the database, whose times are finer than a Date's.
      rows.where(({ eb, refTuple, selectFrom }) =>
        eb(
          refTuple('created_at', 'id'),
          '<',
          selectFrom('run as last')
            .select(['last.created_at', 'last.id'])
            .where('last.id', '=', after!.id)
            .$asTuple('created_at', 'id'),
        ),
      ),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(size + 1)
    .execute();
  const shown = runs.slice(0, size);
  const next = new URLSearchParams(query);
  next.delete('$skiptoken');
  next.set('$skipToken', shown.at(-1)?.id ?? '');
  return {
    value: shown.map(run => runView(run, template.id, origin)),
    ...(runs.length > size && { nextLink: `${origin}${encodeURI(scope)}/providers/Kiln.Builds/runs?${next}` }),
  };
}

async function show({ environment: { database }, origin }: ExtensionCall, template: StoredResource, run: RunRow) {
  const phases = await database.selectFrom('phase').selectAll().where('run_id', '=', run.id).orderBy('index').execute();
  const outputs = await database
    .selectFrom('run_output')
    .selectAll()
    .where('run_id', '=', run.id)
    .orderBy('name')
    .execute();
  return runView(run, template.id, origin, { phases, outputs });
}

/** As text, or followed: by `?follow=true`, or for a client that accepts events. */
async function log(call: ExtensionCall, runId: string): Promise<ExtensionAnswer> {
  const { database, home } = call.environment;
  if (!isFollowed(call))
    return {
      status: 200,
      contentType: 'text/plain; charset=utf-8',
      stream: await logText(database, home.logs, runId),
    };
  const seen = wholeNumber(call.lastEventId || call.query.get('lastEventId'), 'Last-Event-ID', -1, 0);
  return {
    status: 200,
    contentType: 'text/event-stream; charset=utf-8',
    stream: followLog(database, runId, {
      from: seen + 1,
      signal: call.signal,
      // Whose principal was deleted has no roles left.
      allowed: () => call.may('Kiln.Builds/runs/read', call.scope),
    }),
  };
}

function isFollowed({ query, accept }: ExtensionCall): boolean {
  const follow = query.get('follow')?.toLowerCase();
  if (follow === undefined) return /\btext\/event-stream\b/i.test(accept ?? '');
  if (['', 'true', '1'].includes(follow)) return true;
  if (['false', '0'].includes(follow)) return false;
  throw new KilnError('InvalidParameter', `The value '${follow}' of follow is neither true nor false.`, {
    target: 'follow',
  });
}

function wholeNumber(text: string | null | undefined, name: string, fallback: number, least = 1): number {
  if (text === null || text === undefined || text === '') return fallback;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least) return value;
  throw new KilnError('InvalidParameter', `The value '${text}' of ${name} is no whole number from ${least}.`, {
    target: name,
  });
}
