/**
 * How a client proves itself with a certificate: a JSON Web Token that it signed itself (RFC 7523), naming the certificate by its thumbprint. One assertion is
 * taken more than once while it lasts: Microsoft's libraries keep theirs for ten minutes and send it with each request for a token. So its life is bounded
 * instead.
 */
import { createPublicKey } from 'node:crypto';
import { decodeProtectedHeader, errors, type JWTPayload, type JWTVerifyResult, jwtVerify } from 'jose';
import type { Certificate } from './certificates.ts';
import { SignInError } from './sign-in-error.ts';

export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** What MSAL signs with: RS256 for authorities that it takes for AD FS, PS256 for others. */
const ALGORITHMS = ['RS256', 'PS256'];
const LONGEST = 16 * 1024;
const CLOCK_TOLERANCE = 300;
/** Seconds that an assertion may be good for; libraries say ten minutes. */
const LONGEST_LIFE = 24 * 3600;

export interface AssertionCheck {
  /** Untrusted. */
  readonly assertion: string;
  readonly clientId: string;
  readonly certificates: readonly Certificate[];
  /** Whether an audience (untrusted) is a token endpoint here. */
  readonly isOwn: (audience: string) => boolean;
  readonly now: Date;
}

/** Resolves when the assertion proves the client. Errors: SignInError. */
export async function checkAssertion(check: AssertionCheck): Promise<void> {
  const { assertion, clientId, certificates, isOwn, now } = check;
  if (assertion.length > LONGEST) throw malformed();
  const certificate = certificateOf(assertion, certificates);
  if (!certificate)
    throw new SignInError(
      'invalid_client',
      700027,
      `The certificate with identifier used to sign the client assertion is not registered on application '${clientId}'. See \`kiln principal list\`.`,
    );
  if (now < certificate.not_before || now > certificate.not_after)
    throw new SignInError(
      'invalid_client',
      700027,
      `Client assertion failed signature validation. [Reason - The key used is expired. Thumbprint of key used by client: '${certificate.thumbprint}', valid from ${certificate.not_before.toISOString()} to ${certificate.not_after.toISOString()}.]`,
    );
  const { payload } = await verified(assertion, certificate, now);
  const { iss, sub, aud, jti } = payload;
  const isClient = (claim: string | undefined) => claim?.toLowerCase() === clientId.toLowerCase();
  if (!isClient(iss) || !isClient(sub))
    throw new SignInError(
      'invalid_client',
      700021,
      "Client assertion application identifier doesn't match 'client_id' parameter.",
    );
  if (typeof aud !== 'string' || !isOwn(aud))
    throw new SignInError(
      'invalid_client',
      700023,
      'Client assertion audience claim does not match Realm issuer: it must be the address of the token endpoint.',
    );
  if (typeof jti !== 'string' || jti === '') throw malformed();
  if (payload.exp! - now.getTime() / 1000 > LONGEST_LIFE) throw outOfTime(payload, now);
}

function certificateOf(assertion: string, certificates: readonly Certificate[]): Certificate | undefined {
  let header: ReturnType<typeof decodeProtectedHeader>;
  try {
    header = decodeProtectedHeader(assertion);
  } catch {
    throw malformed();
  }
  const hex = (value: unknown): string | undefined =>
    typeof value === 'string' ? Buffer.from(value, 'base64url').toString('hex').toUpperCase() : undefined;
  const sha256 = hex(header['x5t#S256']);
  if (sha256 !== undefined) return certificates.find(one => one.sha256 === sha256);
  const sha1 = hex(header.x5t);
  if (sha1 !== undefined) return certificates.find(one => one.thumbprint === sha1);
  throw new SignInError(
    'invalid_client',
    50027,
    'JWT token is invalid or malformed: the header of the client assertion names no certificate (x5t or x5t#S256).',
  );
}

async function verified(assertion: string, { certificate }: Certificate, now: Date): Promise<JWTVerifyResult> {
  try {
    return await jwtVerify(assertion, createPublicKey(certificate), {
      algorithms: ALGORITHMS,
      requiredClaims: ['exp', 'iss', 'sub', 'aud', 'jti'],
      clockTolerance: CLOCK_TOLERANCE,
      currentDate: now,
    });
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw outOfTime(error.payload, now);
    if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf') throw outOfTime(error.payload, now);
    if (error instanceof errors.JWSSignatureVerificationFailed)
      throw new SignInError(
        'invalid_client',
        700027,
        'Client assertion failed signature validation. [Reason - The signature is invalid.]',
      );
    if (error instanceof errors.JOSEError || error instanceof TypeError) throw malformed();
    throw error;
  }
}

const time = (seconds: unknown): string =>
  typeof seconds === 'number' && Math.abs(seconds) < 1e11 ? new Date(seconds * 1000).toISOString() : 'none';

const outOfTime = ({ nbf, exp }: JWTPayload, now: Date) =>
  new SignInError(
    'invalid_client',
    700024,
    `Client assertion is not within its valid time range. Current time: ${now.toISOString()}, assertion valid from ${time(nbf)}, expiry time of assertion ${time(exp)}.`,
  );

const malformed = () => new SignInError('invalid_client', 50027, 'JWT token is invalid or malformed.');
