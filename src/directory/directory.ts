/** Who callers are: principals with their secrets, and tokens for them. */
import type { JWK } from 'jose';
import type { Caller } from '../arm/caller.ts';
import { KilnError } from '../arm/errors.ts';
import { LOCAL_TENANT } from '../arm/ids.ts';
import type { Database } from '../database/connection.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { openSession } from '../database/session.ts';
import type { Home } from '../home.ts';
import { type Audience, audiencesOf, STORAGE_RESOURCE } from './audiences.ts';
import { certificatesOf } from './certificates.ts';
import { checkAssertion } from './client-assertion.ts';
import { openKeys } from './keys.ts';
import {
  CHANNEL,
  listPrincipals,
  type Principal,
  principalOfClient,
  principalOfObject,
  secretsOf,
} from './principals.ts';
import { isSecret } from './secrets.ts';
import { SignInError } from './sign-in-error.ts';
import {
  type Authority,
  checkAudience,
  type IssuedToken,
  issuerOf,
  issueToken,
  isTokenEndpoint,
  type ProofOfClient,
  verifyToken,
} from './tokens.ts';
import { VerifiedTokens } from './verified-tokens.ts';

export interface Directory {
  readonly tenantId: string;
  /**
   * Who an Authorization header speaks for. Errors: AuthenticationFailed (missing), InvalidAuthenticationToken, ExpiredAuthenticationToken,
   * InvalidAuthenticationTokenTenant, InvalidAuthenticationTokenAudience (default: Resource Manager's).
   */
  authenticate(authorization: string | undefined, audience?: Audience): Promise<Caller>;
  /** The `WWW-Authenticate` of a 401: clients find the tenant in it. */
  challenge(error: { readonly code: string; readonly message: string }): string;
}

export interface ClientSignIn {
  readonly clientId: string;
  /** How the client proves itself: a secret, or an assertion that its certificate signed. */
  readonly proof: { readonly secret: string } | { readonly assertion: string };
  /** App ID URI of what the token is for. */
  readonly resource: string;
  readonly authority: Authority;
}

export interface IdentitySignIn {
  /** What `identityHeader` of the keys gave the identity's host. */
  readonly header: string;
  readonly resource: string;
  /** Where the client says which identity it means: its client id, object id or resource id. */
  readonly identity?: string;
}

/** What the sign-in endpoints need besides. */
export interface SignInDirectory extends Directory {
  /** Public keys that tokens are verified with. */
  readonly keys: readonly JWK[];
  issuer(authority: Authority): string;
  /** Errors: SignInError. */
  signIn(request: ClientSignIn): Promise<IssuedToken>;
  /** Errors: SignInError. */
  identityToken(request: IdentitySignIn): Promise<IssuedToken & { readonly clientId: string }>;
  /** For what the server does in a principal's name: its token for storage, or undefined when it was deleted. */
  storageToken(objectId: string): Promise<string | undefined>;
  principalOfClient(clientId: string): Promise<Principal | undefined>;
  principalOfObject(objectId: string): Promise<Principal | undefined>;
  principals(): Promise<Principal[]>;
  close(): Promise<void>;
}

export interface DirectoryOptions {
  readonly home: Home;
  readonly database: Database;
  /** What clients call the server; known when it listens. */
  readonly origin: () => string;
  readonly log: ServiceLog;
  /** For tests. */
  readonly now?: () => Date;
}

/** Errors: those of openKeys and of the database. */
export async function openDirectory(options: DirectoryOptions): Promise<SignInDirectory> {
  const { database, log, origin } = options;
  const { kysely } = database;
  const keys = await openKeys(options.home);
  const tenantId = LOCAL_TENANT;
  const now = options.now ?? (() => new Date());
  const context = () => ({ keys, tenantId, origin: origin(), now: now() });
  const verified = new VerifiedTokens();
  const session = await openSession({
    log,
    connect: database.connect,
    onNotification: objectId => verified.forget(objectId),
    async prepare(client) {
      await client.query(`listen ${CHANNEL}`);
      // Deletions may have gone unheard while the database was away.
      verified.clear();
    },
  });

  async function callerOf(token: string, audience: Audience): Promise<Caller> {
    const known = verified.get(token, now().getTime(), session.client !== undefined);
    if (known) {
      checkAudience(known, audience, origin());
      return known.caller;
    }
    const heard = verified.heard;
    const proven = await verifyToken(context(), token);
    checkAudience(proven, audience, origin());
    const principal = await principalOfObject(kysely, proven.objectId);
    if (!principal)
      throw new KilnError('InvalidAuthenticationToken', 'The access token is invalid: its principal was deleted.');
    const caller = callerFrom(principal, tenantId);
    verified.add(token, { ...proven, caller }, now().getTime(), heard);
    return caller;
  }

  const tokenFor = (
    principal: Principal,
    resource: string,
    authority: Authority,
    proof: ProofOfClient,
  ): Promise<IssuedToken> => {
    if (audiencesOf(resource, origin()).length > 0)
      return issueToken(context(), principal, { resource, authority, proof });
    throw new SignInError(
      'invalid_resource',
      500011,
      `The resource principal named ${resource.slice(0, 200)} was not found in the tenant named ${tenantId}.`,
    );
  };

  return {
    tenantId,
    keys: keys.published,
    issuer: authority => issuerOf(context(), authority),

    async authenticate(authorization, audience = 'management') {
      if (!authorization)
        throw new KilnError('AuthenticationFailed', "Authentication failed. The 'Authorization' header is missing.");
      const token = /^Bearer +([^\s,]+) *$/i.exec(authorization)?.[1];
      if (token === undefined)
        throw new KilnError(
          'AuthenticationFailed',
          "Authentication failed. The 'Authorization' header is provided in an invalid format.",
        );
      return await callerOf(token, audience);
    },

    challenge({ code, message }) {
      const description =
        code === 'AuthenticationFailed' && message.endsWith('missing.')
          ? "The authentication failed because of missing 'Authorization' header."
          : message.replace(/[^\x20-\x7e]|["\\]/g, "'");
      return `Bearer authorization_uri="${origin()}/${tenantId}", error="invalid_token", error_description="${description}"`;
    },

    async signIn({ clientId, proof, resource, authority }) {
      const principal = await principalOfClient(kysely, clientId);
      if (!principal)
        throw new SignInError(
          'unauthorized_client',
          700016,
          `Application with identifier '${clientId.slice(0, 100)}' was not found in the directory '${tenantId}'. Was it deleted? See \`kiln principal list\`.`,
        );
      if ('assertion' in proof) {
        const certificates = await certificatesOf(kysely, principal.object_id);
        const isOwn = (audience: string) => isTokenEndpoint(audience, origin(), tenantId);
        await checkAssertion({ assertion: proof.assertion, clientId, certificates, isOwn, now: now() });
        return await tokenFor(principal, resource, authority, '2');
      }
      const secrets = await secretsOf(kysely, principal.object_id);
      const match = secrets.find(({ hash }) => isSecret(proof.secret, hash));
      if (!match)
        throw new SignInError(
          'invalid_client',
          7000215,
          `Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '${clientId}'.`,
        );
      if (match.expires_at !== null && match.expires_at <= now())
        throw new SignInError(
          'invalid_client',
          7000222,
          `The provided client secret keys for app '${clientId}' are expired. Make another one with \`kiln principal create\`.`,
        );
      return await tokenFor(principal, resource, authority, '1');
    },

    async storageToken(objectId) {
      const principal = await principalOfObject(kysely, objectId);
      if (!principal) return undefined;
      return (await tokenFor(principal, STORAGE_RESOURCE, 'adfs', '2')).token;
    },

    async identityToken({ header, resource, identity }) {
      const objectId = keys.readIdentityHeader(header);
      const principal = objectId === undefined ? undefined : await principalOfObject(kysely, objectId);
      if (principal?.kind !== 'ManagedIdentity')
        throw new SignInError(
          'invalid_client',
          7000215,
          'The identity header is none of this server, or its identity was deleted.',
        );
      const names = [principal.client_id, principal.object_id, principal.resource_id];
      if (identity !== undefined && !names.includes(identity.toLowerCase().replace(/\/$/, '')))
        throw new SignInError(
          'invalid_request',
          700016,
          `The identity header stands for ${principal.display_name}, not for '${identity.slice(0, 300)}'.`,
        );
      return { ...(await tokenFor(principal, resource, 'entra', '2')), clientId: principal.client_id };
    },

    principalOfClient: clientId => principalOfClient(kysely, clientId),
    principalOfObject: objectId => principalOfObject(kysely, objectId),
    principals: () => listPrincipals(kysely),
    close: () => session.close(),
  };
}

function callerFrom(principal: Principal, tenantId: string): Caller {
  return Object.freeze({
    objectId: principal.object_id,
    clientId: principal.client_id,
    tenantId,
    type: principal.type,
    displayName: principal.display_name,
  });
}
