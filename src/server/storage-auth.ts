/** Who may do what with blobs: what a request proves about its caller, as a grant that each operation asks. */
import type { TLSSocket } from 'node:tls';
import type { FastifyRequest } from 'fastify';
import type { Directory } from '../directory/directory.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import type { StorageAccount } from '../providers/storage/find-account.ts';
import { splitTarget } from '../providers/storage/request-parts.ts';
import { BlobError } from './blob-errors.ts';
import { blobPath } from './blob-request.ts';
import { anonymousGrant } from './storage-auth-anonymous.ts';
import { bearerGrant } from './storage-auth-bearer.ts';
import { permissionMismatch } from './storage-auth-errors.ts';
import { sasGrant } from './storage-auth-sas.ts';
import { sharedKeyGrant } from './storage-auth-shared-key.ts';
import { requireReachable } from './storage-network.ts';

export interface StorageAuthOptions {
  readonly environment: Pick<ProviderEnvironment, 'database' | 'home' | 'log'>;
  readonly directory: Pick<Directory, 'authenticate' | 'tenantId'>;
  readonly roles: Pick<Roles, 'may' | 'mayData'>;
  /** What clients call the server; known when it listens. */
  readonly origin: () => string;
  /** For tests. */
  readonly now?: () => Date;
}

/** `getAcl` and `setAcl`: who may reach a container, its public access and stored policies; signatures never grant that. */
export type BlobAction = 'read' | 'write' | 'create' | 'add' | 'delete' | 'list' | 'tags' | 'getAcl' | 'setAcl';

/**
 * What an action is done on. On a container, `read`, `write`, `create` and `delete` mean its own properties and life, `list` the list of its blobs; on the
 * service, `list` the list of containers, `read` and `write` its properties.
 */
export type BlobTarget =
  | { readonly level: 'service' }
  | { readonly level: 'container'; readonly container: string }
  | { readonly level: 'blob'; readonly container: string; readonly blob: string };

export interface BlobGrant {
  /** Object id of the principal; for keys and signatures what they are, for the log. */
  readonly principal: string;
  /** False: AuthorizationPermissionMismatch is the answer (`requireAllowed` throws it). Errors: BlobError where the reason has a code of its own. */
  allows(action: BlobAction, on: BlobTarget): Promise<boolean>;
  /** Headers of the answer that a signature asks for instead of the blob's own (rscc, rscd, rsce, rscl, rsct): lower-cased names. */
  readonly overrides: Readonly<Record<string, string>>;
}

/**
 * `account`: the one that the request's path names, undefined when there is none of that name: callers learn that only when they have said who they are.
 * Sets `request.caller` for bearer tokens. Errors: BlobError, and those of sign-in.
 */
export async function authorizeBlobRequest(
  request: FastifyRequest,
  account: StorageAccount | undefined,
  options: StorageAuthOptions,
): Promise<BlobGrant> {
  const { authorization } = request.headers;
  const now = options.now?.() ?? new Date();
  const parts = { method: request.method, headers: request.headers, ...splitTarget(request.originalUrl) };
  const { container, blob } = blobPath(request.url) ?? {};
  const named = { ...(container !== undefined && { container }), ...(blob !== undefined && { blob }) };
  const grant = async (): Promise<BlobGrant> => {
    if (authorization !== undefined && /^SharedKey/i.test(authorization))
      return await sharedKeyGrant(parts, authorization, account, options, now);
    if (authorization !== undefined) {
      request.caller = await options.directory.authenticate(authorization, 'storage');
      if (!account) throw new BlobError(404, 'ResourceNotFound', 'The specified resource does not exist.');
      return bearerGrant(request.caller, account, options);
    }
    const signed = await sasGrant({ ...parts, ...named, address: request.ip }, account, options, now);
    return signed ?? (await anonymousGrant(account, container, options));
  };
  const granted = await grant();
  requireReachable(account!, request.ip, (request.raw.socket as Partial<TLSSocket>).getProtocol?.() ?? undefined);
  return granted;
}

/** Errors: AuthorizationPermissionMismatch. */
export async function requireAllowed(grant: BlobGrant, action: BlobAction, on: BlobTarget): Promise<void> {
  if (!(await grant.allows(action, on))) throw permissionMismatch();
}
