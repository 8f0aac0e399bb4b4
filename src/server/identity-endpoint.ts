/**
 * Tokens for managed identities, by App Service's protocol: whoever holds the identity's header (`kiln env --identity`) gets them, and no secret is asked.
 * `IDENTITY_ENDPOINT` with `X-IDENTITY-HEADER` since 2019-08-01; `MSI_ENDPOINT` with `secret` before.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServiceLog } from '../database/service-log.ts';
import { SignInError } from '../directory/sign-in-error.ts';
import type { SignInOptions } from './sign-in.ts';
import { firstForm, noStore, SIGN_IN_RATE, sendSignInError } from './sign-in-answers.ts';

const VERSIONS = ['2017-09-01', '2019-08-01'] as const;
/** How the versions let a client say which identity it means. */
const IDENTITY_PARAMETERS = ['client_id', 'clientid', 'principal_id', 'object_id', 'mi_res_id', 'msi_res_id'];

export async function identityEndpoint(app: FastifyInstance, { directory, log }: SignInOptions): Promise<void> {
  app.setErrorHandler((error, request, reply) => sendIdentityError(error, request, reply, log));
  app.get('/msi/token', { config: { rateLimit: SIGN_IN_RATE } }, async (request, reply) => {
    const query = request.query as Record<string, unknown>;
    const parameter = (name: string) => {
      const value = query[name];
      return typeof value === 'string' && value !== '' ? value : undefined;
    };
    const version = VERSIONS.find(one => one === parameter('api-version'));
    if (!version)
      throw new SignInError('invalid_request', 90014, `The api-version must be one of ${VERSIONS.join(', ')}.`);
    const header = request.headers[version === '2017-09-01' ? 'secret' : 'x-identity-header'];
    if (typeof header !== 'string' || header === '')
      throw new SignInError(
        'invalid_client',
        7000218,
        `The header ${version === '2017-09-01' ? 'secret' : 'X-IDENTITY-HEADER'} is missing.`,
      );
    const resource = parameter('resource');
    if (resource === undefined)
      throw new SignInError('invalid_request', 900144, "The query must contain the following parameter: 'resource'.");
    const identity = IDENTITY_PARAMETERS.map(parameter).find(value => value !== undefined);
    const issued = await directory.identityToken({ header, resource, ...(identity !== undefined && { identity }) });
    const form = firstForm(issued);
    return noStore(reply).send({
      access_token: form.access_token,
      expires_on: version === '2017-09-01' ? dotNetTime(issued.expiresAt) : form.expires_on,
      resource,
      token_type: 'Bearer',
      client_id: issued.clientId,
    });
  });
}

/** `09/14/2026 13:05:09 +00:00`: the older version's time is text of .NET. */
function dotNetTime(date: Date): string {
  const [year, month, day] = date.toISOString().slice(0, 10).split('-');
  return `${month}/${day}/${year} ${date.toISOString().slice(11, 19)} +00:00`;
}

function sendIdentityError(thrown: unknown, request: FastifyRequest, reply: FastifyReply, log: ServiceLog) {
  if (!(thrown instanceof SignInError)) return sendSignInError(thrown, request, reply, log);
  log('info', 'A managed identity got no token.', { correlationId: request.correlationId, reason: thrown.message });
  // Its own form, and OAuth's for the libraries that look for that.
  return noStore(reply).status(thrown.status).send({
    statusCode: thrown.status,
    message: thrown.message,
    error: thrown.error,
    error_description: thrown.message,
    correlationId: request.correlationId,
  });
}
