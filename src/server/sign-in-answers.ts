/** What the sign-in endpoints have in common: their answers, their errors, their limit. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { KilnError } from '../arm/errors.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { SignInError } from '../directory/sign-in-error.ts';
import type { IssuedToken } from '../directory/tokens.ts';

/** Sign-ins from one address in a second. Secrets cannot be guessed; signing takes time. */
export const SIGN_IN_RATE = { max: 50, timeWindow: 1000, keyGenerator: (request: FastifyRequest) => request.ip };

/** A guid, or the words by which clients say that they do not know it. Errors: SignInError. */
export function checkTenant(tenant: string, tenantId: string): void {
  if ([tenantId, 'common', 'organizations'].includes(tenant.toLowerCase())) return;
  throw new SignInError(
    'invalid_request',
    90002,
    `Tenant '${tenant.slice(0, 100)}' not found. This server has the tenant '${tenantId}' alone.`,
  );
}

const seconds = (date: Date) => String(Math.floor(date.getTime() / 1000));

/** Numbers are text there. */
export function firstForm({ token, expiresIn, expiresAt, notBefore, resource }: IssuedToken) {
  return {
    token_type: 'Bearer',
    expires_in: String(expiresIn),
    ext_expires_in: String(expiresIn),
    expires_on: seconds(expiresAt),
    not_before: seconds(notBefore),
    resource,
    access_token: token,
  };
}

export function secondForm({ token, expiresIn }: IssuedToken) {
  return { token_type: 'Bearer', expires_in: expiresIn, ext_expires_in: expiresIn, access_token: token };
}

export function noStore(reply: FastifyReply): FastifyReply {
  return reply.header('cache-control', 'no-store, no-cache').header('pragma', 'no-cache');
}

/** OAuth's error form, with what Microsoft Entra adds to it. */
export function sendSignInError(
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  log: ServiceLog,
): FastifyReply {
  const error = asSignInError(thrown);
  if (!error) {
    log('error', 'A sign-in failed.', {
      correlationId: request.correlationId,
      error: String((thrown as Error)?.stack ?? thrown),
    });
    return noStore(reply).status(500).send({
      error: 'server_error',
      error_description: 'AADSTS90033: Kiln itself failed; its service log says why.',
    });
  }
  log('info', 'A sign-in was refused.', {
    correlationId: request.correlationId,
    ip: request.ip,
    reason: error.message,
  });
  const timestamp = new Date().toISOString().slice(0, 19).replace('T', ' ');
  const trail = `Trace ID: ${request.id} Correlation ID: ${request.correlationId} Timestamp: ${timestamp}Z`;
  return noStore(reply)
    .status(error.status)
    .send({
      error: error.error,
      error_description: `AADSTS${error.number}: ${error.message} ${trail}`,
      error_codes: [error.number],
      timestamp: `${timestamp}Z`,
      trace_id: request.id,
      correlation_id: request.correlationId,
    });
}

function asSignInError(thrown: unknown): SignInError | undefined {
  if (thrown instanceof SignInError) return thrown;
  const { statusCode, message } = thrown as { statusCode?: number; message?: string };
  if (statusCode === 429 || (thrown instanceof KilnError && thrown.code === 'TooManyRequests'))
    return new SignInError('temporarily_unavailable', 90055, message ?? 'Too many sign-ins.');
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new SignInError('invalid_request', 900144, message ?? 'The request cannot be read.');
  return undefined;
}
