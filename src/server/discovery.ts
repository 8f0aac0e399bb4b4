/** The documents by which OpenID clients find the sign-in addresses and the keys of tokens. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Authority } from '../directory/tokens.ts';
import type { SignInOptions } from './sign-in.ts';
import { checkTenant, sendSignInError } from './sign-in-answers.ts';

export async function discoveryRoutes(app: FastifyInstance, options: SignInOptions): Promise<void> {
  const { directory, origin, log } = options;
  app.setErrorHandler((error, request, reply) => sendSignInError(error, request, reply, log));
  const tenantOf = (request: FastifyRequest) => (request.params as { tenant: string }).tenant;

  const document = (authority: Authority, base: string, oauth: string, keys: string) => ({
    issuer: directory.issuer(authority),
    authorization_endpoint: `${base}/${oauth}/authorize`,
    token_endpoint: `${base}/${oauth}/token`,
    device_authorization_endpoint: `${base}/${oauth}/devicecode`,
    jwks_uri: `${base}/${keys}`,
    token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
    grant_types_supported: ['client_credentials'],
    response_types_supported: ['token'],
    response_modes_supported: ['query', 'form_post'],
    scopes_supported: ['openid'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['RS256'],
    claims_supported: ['sub', 'iss', 'aud', 'exp', 'iat', 'nbf', 'tid', 'oid', 'appid', 'ver'],
  });
  app.get('/adfs/.well-known/openid-configuration', async () =>
    document('adfs', `${origin()}/adfs`, 'oauth2', 'discovery/keys'),
  );
  const entra = (version: 1 | 2) => async (request: FastifyRequest) => {
    checkTenant(tenantOf(request), directory.tenantId);
    const base = `${origin()}/${directory.tenantId}`;
    return version === 1
      ? document('entra', base, 'oauth2', 'discovery/keys')
      : document('entra', base, 'oauth2/v2.0', 'discovery/v2.0/keys');
  };
  app.get('/:tenant/.well-known/openid-configuration', entra(1));
  app.get('/:tenant/v2.0/.well-known/openid-configuration', entra(2));

  const keys = async () => ({ keys: directory.keys });
  app.get('/adfs/discovery/keys', keys);
  app.get('/:tenant/discovery/keys', keys);
  app.get('/:tenant/discovery/v2.0/keys', keys);

  // Which clouds there are: this one alone.
  app.get('/common/discovery/instance', async (_request: FastifyRequest, _reply: FastifyReply) => {
    const { host } = new URL(origin());
    return {
      tenant_discovery_endpoint: `${origin()}/${directory.tenantId}/v2.0/.well-known/openid-configuration`,
      'api-version': '1.1',
      metadata: [{ preferred_network: host, preferred_cache: host, aliases: [host] }],
    };
  });
}
