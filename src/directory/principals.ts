/** Who there is: applications with secrets, and managed identities, whose principals come and go with their resources. */
import { randomUUID } from 'node:crypto';
import type { Kysely, Selectable } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import type { PrincipalSecretTable, PrincipalTable, Schema } from '../database/schema.ts';
import { hashSecret, newSecret } from './secrets.ts';

export type Principal = Selectable<PrincipalTable>;

/** On which the table's trigger tells every process that a principal is gone; the payload is its object id. See the migrations. */
export const CHANNEL = 'kiln_principal';

const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export interface NewPrincipal {
  readonly displayName: string;
  readonly kind: 'Application' | 'ManagedIdentity';
  /** Default: fresh ones. */
  readonly objectId?: string;
  readonly clientId?: string;
  /** Of a managed identity. */
  readonly resourceId?: string;
}

export async function createPrincipal(store: Kysely<Schema>, principal: NewPrincipal): Promise<Principal> {
  return await store
    .insertInto('principal')
    .values({
      object_id: principal.objectId ?? randomUUID(),
      client_id: principal.clientId ?? randomUUID(),
      type: 'ServicePrincipal',
      kind: principal.kind,
      display_name: principal.displayName,
      resource_id: principal.resourceId?.toLowerCase() ?? null,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

export async function listPrincipals(store: Kysely<Schema>): Promise<Principal[]> {
  return await store.selectFrom('principal').selectAll().orderBy('created_at').orderBy('object_id').execute();
}

/** By object id or client id: untrusted text, which may be none. */
export async function findPrincipal(store: Kysely<Schema>, id: string): Promise<Principal | undefined> {
  if (!GUID.test(id)) return undefined;
  return await store
    .selectFrom('principal')
    .selectAll()
    .where(eb => eb.or([eb('object_id', '=', id), eb('client_id', '=', id)]))
    .executeTakeFirst();
}

export async function principalOfClient(store: Kysely<Schema>, clientId: string): Promise<Principal | undefined> {
  if (!GUID.test(clientId)) return undefined;
  return await store.selectFrom('principal').selectAll().where('client_id', '=', clientId).executeTakeFirst();
}

export async function principalOfResource(store: Kysely<Schema>, resourceId: string): Promise<Principal | undefined> {
  return await store
    .selectFrom('principal')
    .selectAll()
    .where('resource_id', '=', resourceId.toLowerCase())
    .executeTakeFirst();
}

export async function principalOfObject(store: Kysely<Schema>, objectId: string): Promise<Principal | undefined> {
  if (!GUID.test(objectId)) return undefined;
  return await store.selectFrom('principal').selectAll().where('object_id', '=', objectId).executeTakeFirst();
}

/**
 * Removes an application with its secrets and role assignments; its tokens are refused from the commit on. Errors: PrincipalNotFound; Conflict for a managed
 * identity.
 */
export async function removePrincipal(store: Kysely<Schema>, id: string): Promise<Principal> {
  const principal = await findPrincipal(store, id);
  if (!principal)
    throw new KilnError('PrincipalNotFound', `There is no principal ${id}.`, { hint: 'See `kiln principal list`.' });
  if (principal.resource_id !== null)
    throw new KilnError('Conflict', `${principal.display_name} is a managed identity: it goes with its resource.`, {
      target: principal.resource_id,
      hint: `Delete that: az identity delete --ids ${principal.resource_id}`,
    });
  await store.deleteFrom('principal').where('object_id', '=', principal.object_id).execute();
  return principal;
}

export interface NewSecret {
  readonly id: string;
  /** Known here and never again. */
  readonly secret: string;
  readonly expiresAt: Date | undefined;
}

/** Errors: PrincipalNotFound; Conflict for a managed identity: those have no secrets. */
export async function addSecret(
  store: Kysely<Schema>,
  objectId: string,
  options: { readonly expiresAt?: Date } = {},
): Promise<NewSecret> {
  const principal = await principalOfObject(store, objectId);
  if (!principal) throw new KilnError('PrincipalNotFound', `There is no principal ${objectId}.`);
  if (principal.kind !== 'Application')
    throw new KilnError('Conflict', `${principal.display_name} is a managed identity; those have no secrets.`);
  const secret = newSecret();
  const id = randomUUID();
  await store
    .insertInto('principal_secret')
    .values({
      id,
      object_id: principal.object_id,
      hash: hashSecret(secret),
      hint: secret.slice(0, 3),
      expires_at: options.expiresAt ?? null,
    })
    .execute();
  return { id, secret, expiresAt: options.expiresAt };
}

export async function secretsOf(
  store: Kysely<Schema>,
  objectId: string,
): Promise<readonly Selectable<PrincipalSecretTable>[]> {
  return await store.selectFrom('principal_secret').selectAll().where('object_id', '=', objectId).execute();
}
