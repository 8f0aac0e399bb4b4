/** Access tokens: signed JSON Web Tokens with the claims that Microsoft Entra gives an application. */
import { randomBytes } from 'node:crypto';
import { decodeJwt, errors, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import { KilnError } from '../arm/errors.ts';
import { type Audience, acceptedBy, audiencesOf } from './audiences.ts';
import { ALGORITHM, type SigningKeys } from './keys.ts';
import type { Principal } from './principals.ts';

/** Seconds that a token is good for. */
export const TOKEN_LIFE = 3600;
/** Seconds that clocks of hosts that share a state directory may differ. */
const CLOCK_TOLERANCE = 5;
/** Ours have about 1,100 characters. */
const LONGEST = 8192;

/** The two forms of the sign-in address; each has a discovery document with an issuer of its own. */
export type Authority = 'adfs' | 'entra';

/** How the client proved itself: 1 by a secret, 2 by a certificate (which the platform holds for a managed identity). */
export type ProofOfClient = '1' | '2';

export interface IssuedToken {
  readonly token: string;
  /** Seconds. */
  readonly expiresIn: number;
  readonly expiresAt: Date;
  readonly notBefore: Date;
  readonly resource: string;
}

export interface TokenContext {
  readonly keys: SigningKeys;
  readonly tenantId: string;
  readonly origin: string;
  readonly now: Date;
}

export function issuerOf(
  { origin, tenantId }: Pick<TokenContext, 'origin' | 'tenantId'>,
  authority: Authority,
): string {
  return authority === 'adfs' ? `${origin}/adfs` : `${origin}/${tenantId}/v2.0`;
}

/** Whether a URL (untrusted) is one of the addresses where tokens are asked for, or an issuer: what clients write as the audience of an assertion. */
export function isTokenEndpoint(url: string, origin: string, tenantId: string): boolean {
  const path = url.toLowerCase().replace(/\/+$/, '');
  const own = origin.toLowerCase();
  const tenants = [tenantId, 'common', 'organizations'];
  const bases = ['/adfs', ...tenants.flatMap(tenant => [`/${tenant}`, `/adfs/${tenant}`])];
  const endpoints = bases.flatMap(base => [`${base}/oauth2/token`, `${base}/oauth2/v2.0/token`]);
  return [...endpoints, '/adfs', `/${tenantId}/v2.0`].some(one => path === `${own}${one}`);
}

export async function issueToken(
  context: TokenContext,
  principal: Principal,
  { resource, authority, proof }: { resource: string; authority: Authority; proof: ProofOfClient },
): Promise<IssuedToken> {
  const { keys, tenantId } = context;
  const issuedAt = Math.floor(context.now.getTime() / 1000);
  const issuer = issuerOf(context, authority);
  const claims: JWTPayload = {
    appid: principal.client_id,
    appidacr: proof,
    app_displayname: principal.display_name,
    idp: issuer,
    idtyp: 'app',
    oid: principal.object_id,
    tid: tenantId,
    uti: randomBytes(16).toString('base64url'),
    ver: '1.0',
    ...(principal.resource_id !== null && { xms_mirid: principal.resource_id }),
  };
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT', kid: keys.current.kid })
    .setIssuer(issuer)
    .setSubject(principal.object_id)
    .setAudience(resource)
    .setIssuedAt(issuedAt)
    .setNotBefore(issuedAt)
    .setExpirationTime(issuedAt + TOKEN_LIFE)
    .sign(keys.current.key);
  return {
    token,
    expiresIn: TOKEN_LIFE - 1,
    expiresAt: new Date((issuedAt + TOKEN_LIFE) * 1000),
    notBefore: new Date(issuedAt * 1000),
    resource,
  };
}

export interface VerifiedToken {
  readonly objectId: string;
  readonly audiences: readonly Audience[];
  readonly resource: string;
  /** Milliseconds since 1970. */
  readonly expires: number;
}

/**
 * What a token (untrusted) says, once its signature, issuer and times are proven; its audience is for {@link checkAudience}.
 * Errors: InvalidAuthenticationToken, ExpiredAuthenticationToken, InvalidAuthenticationTokenTenant.
 */
export async function verifyToken(context: TokenContext, token: string): Promise<VerifiedToken> {
  if (token.length > LONGEST) throw invalid();
  try {
    const { payload } = await jwtVerify(
      token,
      ({ kid }) => {
        const key = context.keys.verifying.get(kid ?? '');
        if (!key) throw new errors.JWKSNoMatchingKey();
        return key;
      },
      {
        algorithms: [ALGORITHM],
        issuer: [issuerOf(context, 'adfs'), issuerOf(context, 'entra')],
        requiredClaims: ['exp', 'nbf', 'iat', 'sub', 'aud', 'oid'],
        clockTolerance: CLOCK_TOLERANCE,
        currentDate: context.now,
      },
    );
    const { oid, aud, exp, tid } = payload;
    if (typeof oid !== 'string' || typeof aud !== 'string' || tid !== context.tenantId) throw invalid();
    return { objectId: oid, audiences: audiencesOf(aud, context.origin), resource: aud, expires: exp! * 1000 };
  } catch (error) {
    throw refusal(error, context, token);
  }
}

/** Errors: InvalidAuthenticationTokenAudience. */
export function checkAudience(
  { audiences, resource }: Pick<VerifiedToken, 'audiences' | 'resource'>,
  audience: Audience,
  origin: string,
): void {
  if (audiences.includes(audience)) return;
  const accepted = acceptedBy(audience, origin).map(one => `'${one}'`);
  throw new KilnError(
    'InvalidAuthenticationTokenAudience',
    `The access token has been obtained for wrong audience or resource '${printable(resource)}'. It should exactly match with one of the allowed audiences ${accepted.join(',')}.`,
  );
}

function refusal(error: unknown, context: TokenContext, token: string): unknown {
  if (error instanceof errors.JWTExpired)
    return new KilnError(
      'ExpiredAuthenticationToken',
      `The access token expiry UTC time '${time(new Date(error.payload.exp! * 1000))}' is earlier than current UTC time '${time(context.now)}'.`,
    );
  // The signature was right, so the token was issued here: under a name that the server has no more.
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'iss')
    return wrongIssuer(error.payload.iss, context);
  if (error instanceof errors.JWKSNoMatchingKey) {
    const issuer = unprovenIssuer(token);
    if (issuer !== undefined && !issuer.startsWith(`${context.origin}/`)) return wrongIssuer(issuer, context);
  }
  return error instanceof errors.JOSEError || error instanceof TypeError ? invalid() : error;
}

/** Whom a token that is not ours claims to be from; for the message alone. */
function unprovenIssuer(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}

function wrongIssuer(issuer: unknown, { origin, tenantId }: TokenContext): KilnError {
  return new KilnError(
    'InvalidAuthenticationTokenTenant',
    `The access token is from the wrong issuer '${printable(String(issuer))}'. It must match the tenant '${origin}/${tenantId}' associated with this subscription. Please use the authority (URL) '${origin}/${tenantId}' to get the token.`,
  );
}

const invalid = () => new KilnError('InvalidAuthenticationToken', 'The access token is invalid.');

/** Text of an unproven token, for a message. */
const printable = (text: string): string => text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?');

/** `11/9/2021 9:53:36 PM`, as in Azure's sentence; ICU's own space is no ASCII. */
const time = (date: Date): string =>
  date
    .toLocaleString('en-US', { timeZone: 'UTC' })
    .replace(',', '')
    .replace(/[^\x20-\x7e]/g, ' ');
