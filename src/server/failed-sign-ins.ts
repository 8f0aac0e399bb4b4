/**
 * A limit for tokens, keys and signatures that are refused. Verifying one takes time, and whoever sends it has no name yet by which a rate could be counted.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { KilnError } from '../arm/errors.ts';

/** Refused tokens from one address in a second. A client whose token has just expired sends a few at once. */
const MOST = 50;
const WINDOW_MS = 1000;

/** For all routes that are registered after it, with @fastify/rate-limit registered before. Requests that prove nothing cost nothing and do not count. */
export function limitFailedSignIns(app: FastifyInstance): void {
  const failures = app.createRateLimit({ max: MOST, timeWindow: WINDOW_MS, keyGenerator: request => request.ip });
  app.addHook('onRequest', async (request, reply) => {
    if (!provesSomething(request)) return;
    const standing = await failures(request, { increment: false });
    if (standing.isAllowed || !standing.isExceeded) return;
    reply.header('retry-after', standing.ttlInSeconds);
    throw new KilnError(
      'TooManyRequests',
      `From ${request.ip} come more tokens or signatures that are refused than the limit. Try again in ${standing.ttlInSeconds} s.`,
    );
  });
  app.addHook('onSend', async (request, reply) => {
    if (isRefused(reply) && provesSomething(request)) await failures(request);
  });
}

const provesSomething = (request: FastifyRequest): boolean =>
  request.headers.authorization !== undefined || /[?&]sig=/i.test(request.url);

/** Storage says 403 where a key or a signature is wrong. */
const isRefused = (reply: FastifyReply): boolean =>
  reply.statusCode === 401 ||
  (reply.statusCode === 403 && reply.getHeader('x-ms-error-code') === 'AuthenticationFailed');
