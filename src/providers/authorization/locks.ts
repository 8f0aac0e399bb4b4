/** Microsoft.Authorization/locks on subscriptions, resource groups and resources: `az lock`. What they forbid is in locked-scopes.ts. */
import { type Selectable, sql } from 'kysely';
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';
import { matches, parseFilter, unknownInFilter } from '../../arm/filter.ts';
import { formatId, parseId, resourceGroupId } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import { json, text } from '../../database/json.ts';
import type { ManagementLockTable } from '../../database/schema.ts';
import type { ExtensionCall, ExtensionProvider } from '../extension.ts';
import { groupBeingDeleted, notFoundError } from '../life.ts';
import type { Answer } from '../provider.ts';
import { getResource } from '../store.ts';
import { scopeKey } from './grants.ts';
import { changeLocks } from './locked-scopes.ts';
import { AUTHORIZATION, parseScope } from './scope.ts';

type Lock = Selectable<ManagementLockTable>;

const TYPE = `${AUTHORIZATION}/locks`;
const LEVELS = ['CanNotDelete', 'ReadOnly'] as const;
const NAME_LENGTH = 260;
const NOTES_LENGTH = 512;
const MOST_OWNERS = 50;

export const locks: ExtensionProvider = Object.freeze({
  namespace: AUTHORIZATION,
  type: 'locks',
  apiVersions: Object.freeze(['2020-05-01', '2017-04-01', '2016-09-01', '2015-06-01', '2015-01-01']),
  // A lock could never be taken away again.
  beyondLocks: true,
  permission: ({ method }: Pick<ExtensionCall, 'method'>) =>
    method === 'PUT' ? 'write' : method === 'DELETE' ? 'delete' : 'read',
  handle,
} satisfies ExtensionProvider);

async function handle(call: ExtensionCall): Promise<Answer> {
  const [name, ...more] = call.segments;
  if (more.length > 0) throw new KilnError('NotFound', 'There is nothing below a lock.');
  parseScope(call.scope);
  const { method } = call;
  if (name === undefined) {
    if (method === 'GET') return await list(call);
  } else
    switch (method) {
      case 'GET':
      case 'HEAD': {
        const found = await find(call, name);
        if (!found) throw new KilnError('LockNotFound', `The lock '${name}' could not be found.`);
        return method === 'HEAD' ? { status: 204 } : { status: 200, body: shown(found, call.apiVersion) };
      }
      case 'PUT':
        return await put(call, name);
      case 'DELETE':
        return await remove(call, name);
    }
  throw new KilnError('MethodNotAllowed', `The verb ${method} is not supported for '${TYPE}'.`);
}

const lockKey = (scope: string, name: string) => `${scopeKey(scope)}/providers/${TYPE}/${name}`.toLowerCase();

async function find(call: ExtensionCall, name: string): Promise<Lock | undefined> {
  const { database } = call.environment;
  return await database
    .selectFrom('management_lock')
    .selectAll()
    .where('id', '=', lockKey(call.scope, name))
    .executeTakeFirst();
}

/** At the scope, above and below it; `atScope()` leaves out those below. */
async function list(call: ExtensionCall): Promise<Answer> {
  await call.requireScope();
  const at = `${scopeKey(call.scope)}/`;
  const given = call.query.get('$filter');
  const filter = given ? parseFilter(given) : undefined;
  const rows = await call.environment.database
    .selectFrom('management_lock')
    .selectAll()
    .where(where => where.or([sql<boolean>`starts_with(${at}, scope || '/')`, sql<boolean>`starts_with(scope, ${at})`]))
    .orderBy('id')
    .execute();
  const value = rows
    .filter(row => filter === undefined || matches(filter, subject(row, at)))
    .map(row => shown(row, call.apiVersion));
  return { status: 200, body: { value } };
}

function subject({ scope, name, level }: Lock, at: string) {
  const known = ['atScope()', 'name', 'level'];
  return {
    is(field: string, value: string) {
      if (field === 'name') return name.toLowerCase() === value.toLowerCase();
      if (field === 'level' || field === 'properties/level') return level.toLowerCase() === value.toLowerCase();
      throw unknownInFilter(field, known);
    },
    call(called: string) {
      if (called === 'atscope') return at.startsWith(`${scope}/`);
      throw unknownInFilter(`${called}()`, known);
    },
  };
}

interface Wanted {
  readonly level: Lock['level'];
  readonly notes: string | null;
  readonly owners: readonly { readonly applicationId: string }[] | null;
}

async function put(call: ExtensionCall, name: string): Promise<Answer> {
  checkName(name);
  const { level, notes, owners } = read(call.body);
  await call.requireScope();
  const { database } = call.environment;
  const scope = scopeKey(call.scope);
  const before = await getResource(database, scope);
  return await database.transaction().execute(async trx => {
    await changeLocks(trx, parseScope(call.scope).subscription);
    await requireStaying(trx, scope, before !== undefined);
    const now = new Date();
    const by = call.caller.objectId;
    const content = {
      level,
      notes: notes === null ? null : text(notes),
      owners: owners === null ? null : json(owners),
      changed_at: now,
      changed_by: by,
    };
    const id = lockKey(scope, name);
    const existing = await trx.selectFrom('management_lock').select('id').where('id', '=', id).executeTakeFirst();
    const row = await trx
      .insertInto('management_lock')
      .values({
        id,
        scope,
        display_scope: before?.id ?? formatId(parseId(call.scope)),
        name,
        created_at: now,
        created_by: by,
        ...content,
      })
      .onConflict(conflict => conflict.column('id').doUpdateSet(content))
      .returningAll()
      .executeTakeFirstOrThrow();
    return { status: existing ? 200 : 201, body: shown(row, call.apiVersion) };
  });
}

/** What is being deleted, or was since the look at it, is locked no more. Errors: ResourceGroupBeingDeleted, Conflict, ResourceNotFound. */
async function requireStaying(trx: Transacting, scope: string, wasThere: boolean): Promise<void> {
  const id = parseId(scope);
  const group =
    id.resourceGroup === undefined
      ? undefined
      : await getResource(trx, resourceGroupId(id.subscription, id.resourceGroup));
  if (group?.properties.provisioningState === 'Deleting') throw groupBeingDeleted(group.name);
  const resource = await getResource(trx, scope);
  if (wasThere && !resource) throw await notFoundError(trx, id);
  if (resource?.properties.provisioningState === 'Deleting')
    throw new KilnError('Conflict', `'${resource.id}' is being deleted and cannot be locked.`, { target: resource.id });
}

async function remove(call: ExtensionCall, name: string): Promise<Answer> {
  return await call.environment.database.transaction().execute(async trx => {
    await changeLocks(trx, parseScope(call.scope).subscription);
    const { numDeletedRows } = await trx
      .deleteFrom('management_lock')
      .where('id', '=', lockKey(call.scope, name))
      .executeTakeFirst();
    return { status: numDeletedRows > 0n ? 200 : 204 };
  });
}

function checkName(name: string): void {
  if (name.length > NAME_LENGTH || /[<>%&:\\?/]/.test(name))
    throw new KilnError(
      'InvalidParameter',
      `The lock name '${name.slice(0, 100)}' is invalid. It can be a maximum of ${NAME_LENGTH} characters, and cannot contain <, >, %, &, :, \\, ?, /, or any control characters.`,
      { target: 'lockName' },
    );
}

/** Untrusted. Errors: InvalidRequestContent, InvalidParameter. */
function read(body: unknown): Wanted {
  const properties = isObject(body) && isObject(body.properties) ? body.properties : undefined;
  if (!properties)
    throw new KilnError(
      'InvalidRequestContent',
      "The request content was invalid and could not be deserialized: 'Required property 'properties' not found in JSON.'.",
      { target: 'properties' },
    );
  const { level: given, notes, owners } = properties;
  const level = LEVELS.find(one => typeof given === 'string' && one.toLowerCase() === given.toLowerCase());
  if (!level)
    throw bad(
      'level',
      `The lock level '${String(given ?? '').slice(0, 100)}' is invalid. The supported levels are '${LEVELS.join(', ')}'.`,
    );
  if (notes !== undefined && notes !== null && (typeof notes !== 'string' || notes.length > NOTES_LENGTH))
    throw bad('notes', `The notes of a lock are a text of at most ${NOTES_LENGTH} characters.`);
  return { level, notes: typeof notes === 'string' ? notes : null, owners: readOwners(owners) };
}

function readOwners(owners: unknown): Wanted['owners'] {
  if (owners === undefined || owners === null) return null;
  const read = (Array.isArray(owners) ? owners : [undefined]).map((one: unknown) => {
    const applicationId = isObject(one) ? one.applicationId : undefined;
    if (typeof applicationId === 'string' && applicationId.length <= 100) return { applicationId };
    throw bad('owners', 'The owners of a lock are a list of objects with an applicationId.');
  });
  if (read.length > MOST_OWNERS) throw bad('owners', `A lock has at most ${MOST_OWNERS} owners.`);
  return read;
}

const bad = (field: string, message: string) =>
  new KilnError('InvalidParameter', message, { target: `properties.${field}` });

function shown(lock: Lock, apiVersion: string): JsonObject {
  const { display_scope: scope, name, level, notes, owners } = lock;
  return {
    id: `${scope}/providers/${TYPE}/${name}`,
    type: TYPE,
    name,
    properties: { level, ...(notes !== null && { notes }), ...(owners !== null && { owners }) },
    ...(isSince(apiVersion, '2020-05-01') && {
      systemData: {
        createdBy: lock.created_by,
        createdByType: 'Application',
        createdAt: lock.created_at.toISOString(),
        lastModifiedBy: lock.changed_by,
        lastModifiedByType: 'Application',
        lastModifiedAt: lock.changed_at.toISOString(),
      },
    }),
  };
}
