/**
 * What locks forbid (Azure: "Lock your resources to protect your infrastructure"): CanNotDelete a deletion, ReadOnly every change, at the scope and in
 * it; a lock in something forbids its deletion, too. Locks hold everybody, whatever their roles. A change is judged in the transaction that makes it: whoever
 * makes a lock waits for the changes under way, and those that come after see the lock.
 */
import { type Kysely, sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import type { Transacting } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import { scopeKey } from './grants.ts';

/** Actions (`POST …/run`) count as `write`. */
export type Change = 'write' | 'delete';

/** What was judged in a transaction stays so until that ends: it is not looked up again. */
const judgements = new WeakMap<Kysely<Schema>, ReadonlySet<string>>();

/** In a transaction no lock is made until that ends. Errors: ScopeLocked, in Azure's words. */
export async function requireUnlocked(store: Kysely<Schema>, id: string, change: Change): Promise<void> {
  const key = scopeKey(id);
  const subscription = key.split('/')[2];
  // Nothing above subscriptions can be locked.
  if (subscription === undefined) return;
  const judgement = `${change} ${key}`;
  if (store.isTransaction && judgements.get(store)?.has(judgement)) return;
  if (store.isTransaction) await sql`select pg_advisory_xact_lock_shared(${locksOf(subscription)})`.execute(store);
  const rows = await store
    .selectFrom('management_lock')
    .select(['display_scope', 'name', 'level'])
    .where(where => {
      const above = sql<boolean>`starts_with(${`${key}/`}, scope || '/')`;
      if (change === 'write') return where.and([where('level', '=', 'ReadOnly'), above]);
      return where.or([above, sql<boolean>`starts_with(scope, ${`${key}/`})`]);
    })
    .orderBy('id')
    .execute();
  if (rows.length === 0) {
    if (store.isTransaction) judgements.set(store, new Set(judgements.get(store)).add(judgement));
    return;
  }
  const scopes = [...new Set(rows.map(row => row.display_scope))];
  const names = rows.slice(0, 5).map(({ name, level }) => `'${name}' (${level})`);
  throw new KilnError(
    'ScopeLocked',
    `The scope '${id}' cannot perform ${change} operation because following scope(s) are locked: '${scopes.slice(0, 10).join("','")}'. Please remove the lock and try again.`,
    { target: id, hint: `${rows.length === 1 ? 'The lock is' : 'The locks are'} ${names.join(', ')}.` },
  );
}

/** For what is not a change, but stands for an action that a lock forbids. */
export async function isLocked(store: Kysely<Schema>, id: string, change: Change): Promise<boolean> {
  try {
    await requireUnlocked(store, id, change);
    return false;
  } catch (error) {
    if (error instanceof KilnError && error.code === 'ScopeLocked') return true;
    throw error;
  }
}

/** For whoever makes, changes or takes away locks: waits until no change is being judged by them. First in its transaction, so that two never wait for each other. */
export async function changeLocks(trx: Transacting, subscription: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(${locksOf(subscription)})`.execute(trx);
}

const locksOf = (subscription: string) => sql`hashtextextended(${`locks of ${subscription.toLowerCase()}`}, 0)`;

/**
 * The environment for a change of `id`: each transaction that is opened on its database is judged by locks before anything else. So it is for all types, those
 * with a life of their own included. Errors: ScopeLocked, at once.
 */
export async function unlocked<Environment extends { readonly database: Kysely<Schema> }>(
  environment: Environment,
  id: string,
  change: Change,
): Promise<Environment> {
  const { database } = environment;
  await requireUnlocked(database, id, change);
  return { ...environment, database: judged(database, trx => requireUnlocked(trx, id, change)) };
}

function judged(database: Kysely<Schema>, judge: (trx: Kysely<Schema>) => Promise<void>): Kysely<Schema> {
  const transaction = () => {
    const builder = database.transaction();
    return overriding(builder, 'execute', (work: (trx: Transacting) => Promise<unknown>) =>
      builder.execute(async trx => {
        await judge(trx);
        return await work(trx);
      }),
    );
  };
  return overriding(database, 'transaction', transaction);
}

/** An object with one method replaced. Kysely's classes have private members: the others are called on the object itself. */
function overriding<Whole extends object>(whole: Whole, name: keyof Whole, method: unknown): Whole {
  return new Proxy(whole, {
    get(target, property) {
      if (property === name) return method;
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
