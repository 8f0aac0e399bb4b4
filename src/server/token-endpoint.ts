/**
 * OAuth's client credentials in both forms that Microsoft's libraries ask for: `/adfs/…`, which never looks for Azure's own list of clouds, and
 * `/{tenant}/…` (az-wire 1.2).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ASSERTION_TYPE } from '../directory/client-assertion.ts';
import type { ClientSignIn } from '../directory/directory.ts';
import { SignInError } from '../directory/sign-in-error.ts';
import type { Authority } from '../directory/tokens.ts';
import type { SignInOptions } from './sign-in.ts';
import { checkTenant, firstForm, noStore, SIGN_IN_RATE, secondForm, sendSignInError } from './sign-in-answers.ts';

const BODY_BYTES = 64 * 1024;

export async function tokenEndpoint(app: FastifyInstance, { directory, log }: SignInOptions): Promise<void> {
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, new URLSearchParams(body as string)),
  );
  app.setErrorHandler((error, request, reply) => sendSignInError(error, request, reply, log));
  const answer = (authority: Authority, version: 1 | 2) => async (request: FastifyRequest, reply: FastifyReply) => {
    if (authority === 'entra') checkTenant((request.params as { tenant: string }).tenant, directory.tenantId);
    const { clientId, proof, resource } = readSignIn(request);
    const issued = await directory.signIn({ clientId, proof, resource, authority });
    log('info', 'A principal signed in.', { correlationId: request.correlationId, clientId, resource });
    return noStore(reply).send(version === 1 ? firstForm(issued) : secondForm(issued));
  };
  const route = (url: string, authority: Authority, version: 1 | 2) =>
    app.post(url, { bodyLimit: BODY_BYTES, config: { rateLimit: SIGN_IN_RATE } }, answer(authority, version));
  route('/adfs/oauth2/token', 'adfs', 2);
  route('/adfs/oauth2/v2.0/token', 'adfs', 2);
  // Terraform's providers put the tenant behind the sign-in address, whichever it is.
  route('/adfs/:tenant/oauth2/v2.0/token', 'adfs', 2);
  route('/adfs/:tenant/oauth2/token', 'adfs', 2);
  route('/:tenant/oauth2/v2.0/token', 'entra', 2);
  route('/:tenant/oauth2/token', 'entra', 1);
}

/** Untrusted: form, or form with HTTP basic (RFC 6749, 2.3.1). Errors: SignInError. */
function readSignIn({ body, headers }: FastifyRequest) {
  const form = body instanceof URLSearchParams ? body : new URLSearchParams();
  const repeated = [...form.keys()].find(name => form.getAll(name).length > 1);
  if (repeated !== undefined)
    throw new SignInError('invalid_request', 900143, `The parameter '${repeated.slice(0, 50)}' is there twice.`);
  const grant = required(form, 'grant_type');
  if (grant !== 'client_credentials')
    throw new SignInError(
      'unsupported_grant_type',
      70003,
      `The app requested an unsupported grant type '${grant.slice(0, 100)}'. Sign in as a service principal: \`kiln principal create\` makes one.`,
    );
  const basic = basicCredentials(headers.authorization);
  const clientId = basic?.clientId ?? required(form, 'client_id');
  return { clientId, proof: proofOf(form, basic?.secret), resource: resourceOf(form) };
}

function proofOf(form: URLSearchParams, basicSecret: string | undefined): ClientSignIn['proof'] {
  const assertion = form.get('client_assertion');
  const secret = basicSecret ?? form.get('client_secret');
  if (secret && assertion)
    throw new SignInError('invalid_request', 90019, 'The request proves the client in two ways: send one of them.');
  if (secret) return { secret };
  if (!assertion)
    throw new SignInError(
      'invalid_client',
      7000218,
      "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    );
  const type = required(form, 'client_assertion_type');
  if (type === ASSERTION_TYPE) return { assertion };
  throw new SignInError(
    'invalid_request',
    700022,
    `The client_assertion_type '${type.slice(0, 100)}' is not supported. It must be '${ASSERTION_TYPE}'.`,
  );
}

function required(form: URLSearchParams, name: string): string {
  const value = form.get(name);
  if (value) return value;
  throw new SignInError('invalid_request', 900144, `The request body must contain the following parameter: '${name}'.`);
}

function basicCredentials(authorization: string | undefined) {
  const encoded = /^Basic +([A-Za-z0-9+/=_-]+) *$/i.exec(authorization ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const at = text.indexOf(':');
  try {
    if (at > 0)
      return { clientId: decodeURIComponent(text.slice(0, at)), secret: decodeURIComponent(text.slice(at + 1)) };
  } catch {
    // said below
  }
  throw new SignInError('invalid_client', 50012, 'The Authorization header cannot be read.');
}

/** `resource` in the first form of the protocol; in the second `scope`, which for client credentials is the resource with `/.default`. */
function resourceOf(form: URLSearchParams): string {
  const resource = form.get('resource');
  if (resource) return resource;
  const scopes = (form.get('scope') ?? '').split(/\s+/).filter(scope => scope !== '');
  const own = scopes.filter(scope => !['openid', 'profile', 'offline_access'].includes(scope));
  if (own.length === 0) required(form, 'scope');
  if (own.length === 1 && own[0]!.endsWith('/.default')) return own[0]!.slice(0, -'/.default'.length);
  throw new SignInError(
    'invalid_scope',
    1002012,
    `The provided value for scope ${own.join(' ').slice(0, 200)} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).`,
  );
}
