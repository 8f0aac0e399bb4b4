/** Polling: the status of an operation at the URL that Azure-AsyncOperation names, and its end at that of Location. */
import type { Kysely } from 'kysely';
import { errorFromBody, KilnError } from '../arm/errors.ts';
import { tryParseId } from '../arm/ids.ts';
import { isObject } from '../arm/shape.ts';
import type { OperationRow, Schema } from '../database/schema.ts';
import type { Engine } from '../engine/engine.ts';
import { isTerminal } from '../engine/operation.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import { RUN_KIND } from '../providers/image-builder/run.ts';
import { withLogUrl } from '../providers/image-builder/staged-blobs.ts';
import type { Answer, ProviderEnvironment } from '../providers/provider.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { armError } from './envelope.ts';
import { requireGet, requireVersion } from './request-checks.ts';

/** Seconds between two looks: without it clients wait 30 (az-wire, 2). */
export const RETRY_AFTER = '1';
/** How long an answer waits for the end (ms). Clients look at once and then by the second; most operations end before that. */
const PATIENCE = 500;

/** Where an operation is polled: `/subscriptions/S/providers/NS/locations/L/operations/ID`. `monitor`: what Compute's Location has besides. */
export function operationUrl(
  request: ArmRequest,
  { id, location, segment = 'operations' }: NonNullable<Answer['operation']>,
  { monitor = false } = {},
): string {
  const { subscription, namespace } = request.path;
  const version = `${monitor ? 'monitor=true&' : ''}api-version=${encodeURIComponent(request.query.get('api-version') ?? '')}`;
  const provider = namespace ?? 'Microsoft.Resources';
  return `${request.origin}/subscriptions/${subscription}/providers/${provider}/locations/${location}/${segment}/${id}?${version}`;
}

const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whoever began it may look, and whoever may read what it is about. */
export async function operationStatus(
  { environment, roles }: { readonly environment: ProviderEnvironment; readonly roles: Roles },
  request: ArmRequest,
  id: string,
): Promise<Answer> {
  const row = GUID.test(id)
    ? await environment.database
        .selectFrom('operation')
        .selectAll()
        .where('id', '=', id.toLowerCase())
        .executeTakeFirst()
    : undefined;
  const about = row?.resource_id ? tryParseId(row.resource_id) : undefined;
  const mine = row?.caller !== null && row?.caller === request.caller.objectId;
  const visible =
    row && (mine || (about !== undefined && (await roles.may(request.caller, `${about.type}/read`, row.resource_id!))));
  if (!row || !visible)
    throw new KilnError('NotFound', `The operation '${id}' is not known, or ended more than a day ago.`, {
      hint: 'Read the resource itself: its state is there.',
    });
  const now = isTerminal(row.status) ? row : await ended(environment.engine, row, request.signal);
  const compute = request.path.types.at(-1)?.toLowerCase() === 'capsoperations';
  const body = (compute ? capsBody : statusBody)({
    ...now,
    error: await errorOf(environment.database, now, request.origin),
  });
  return { status: 200, body, headers: isTerminal(now.status) ? {} : { 'retry-after': RETRY_AFTER } };
}

/** The row at its end, or, where that does not come soon, as it was. */
async function ended(engine: Engine, row: OperationRow, gone: AbortSignal): Promise<OperationRow> {
  const signal = AbortSignal.any([gone, AbortSignal.timeout(PATIENCE)]);
  return await engine.wait(row.id, { signal }).catch(error => {
    if (signal.aborted) return row;
    throw error;
  });
}

/** As Image Builder writes it: the name in capitals, no percentage (contract 1.5). */
function statusBody(row: OperationRow) {
  const terminal = isTerminal(row.status);
  return {
    name: row.id.toUpperCase(),
    status: terminal ? row.status : 'InProgress',
    startTime: (row.started_at ?? row.created_at).toISOString(),
    ...(row.ended_at && { endTime: row.ended_at.toISOString() }),
    ...warningsOf(row),
    ...(row.error && { error: armError(toError(row.error)) }),
  };
}

/** As Compute writes it for galleries: the name in small letters, times with an offset (recorded). */
function capsBody(row: OperationRow) {
  const { name, startTime, endTime, ...rest } = statusBody(row);
  const offset = (time: string) => time.replace('Z', '0000+00:00');
  return {
    startTime: offset(startTime),
    ...(endTime !== undefined && { endTime: offset(endTime) }),
    ...rest,
    name: name.toLowerCase(),
  };
}

/** Of one that did less than its caller may think. */
function warningsOf({ output }: OperationRow): { readonly properties?: { readonly warnings: readonly unknown[] } } {
  const warnings = isObject(output) ? output.warnings : undefined;
  return Array.isArray(warnings) && warnings.length > 0 ? { properties: { warnings } } : {};
}

/** Of a run it says what lastRunStatus says: Azure's sentence first, which scripts search for. */
async function errorOf(
  database: Kysely<Schema>,
  { id, kind, error }: OperationRow,
  origin: string,
): Promise<OperationRow['error']> {
  if (error === null || kind !== RUN_KIND) return error;
  const run = await database.selectFrom('run').select('message').where('id', '=', id).executeTakeFirst();
  return run?.message ? { ...error, message: withLogUrl(run.message, origin) } : error;
}

function toError(body: NonNullable<OperationRow['error']>): KilnError {
  return new KilnError(body.code, body.message, {
    ...(body.target !== undefined && { target: body.target }),
    ...(body.hint !== undefined && { hint: body.hint }),
    details: (body.details ?? []).map(toError),
  });
}

/** A deletion is polled at its Location alone. */
export function resultHeaders(request: ArmRequest, operation: string): Record<string, string> {
  const version = encodeURIComponent(request.query.get('api-version') ?? '');
  const location = `${request.origin}/subscriptions/${request.path.subscription}/operationresults/${operation}?api-version=${version}`;
  return { location, 'retry-after': RETRY_AFTER };
}

/** The Location of a deletion: 202 until it is done, then 200, or why it failed. */
export async function operationResult(dispatcher: Dispatcher, request: ArmRequest, id: string): Promise<Reply> {
  requireGet(request);
  requireVersion(request);
  const { body } = await operationStatus(dispatcher, request, id);
  const { status } = body as { status: string };
  if (status === 'Succeeded') return { status: 200 };
  if (status !== 'Failed' && status !== 'Canceled') {
    // A provider's own URL is where it goes on; a group's deletion is polled at the subscription.
    const here = request.path.namespace === undefined ? {} : { location: request.url.href };
    return { status: 202, headers: { ...resultHeaders(request, id), ...here } };
  }
  const row = await dispatcher.environment.database
    .selectFrom('operation')
    .select('error')
    .where('id', '=', id.toLowerCase())
    .executeTakeFirst();
  throw row?.error ? errorFromBody(row.error) : new KilnError('InternalError', `The operation ${id} ended ${status}.`);
}
