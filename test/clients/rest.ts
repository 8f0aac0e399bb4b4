/** Requests to a server of the tests by plain HTTPS, for what a client under test does not do itself. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { TokenCredential } from '@azure/core-auth';
import type { Served } from './served.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  // biome-ignore lint/suspicious/noExplicitAny: an answer has no type; every field is asserted.
  readonly body: any;
}

export interface Rest {
  /** PEM. */
  readonly ca: string;
  /** Of the administrator, from the token endpoint. `scope` as clients write it: `https://management.azure.com/.default`. */
  token(scope?: string): Promise<{ readonly token: string; readonly expires: Date }>;
  /** The same for Microsoft's libraries. */
  readonly credential: TokenCredential;
  /** `path` is absolute, or a URL. The body of the answer is JSON, text where it is none, undefined where there is none. */
  send(method: string, path: string, body?: unknown): Promise<Answer>;
  /** The answer as it arrives. */
  open(path: string, headers?: Readonly<Record<string, string>>): Promise<IncomingMessage>;
  close(): void;
}

const SCOPE = 'https://management.azure.com/.default';

export async function restOf(served: Pick<Served, 'origin' | 'env'>): Promise<Rest> {
  const ca = await readFile(served.env.NODE_EXTRA_CA_CERTS!, 'utf8');
  const agent = new Agent({ ca, keepAlive: true });
  const { env, origin } = served;
  let bearer: Promise<{ token: string; expires: Date }> | undefined;

  const exchange = (method: string, url: string, headers: Record<string, string>, body?: string) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const sent = httpsRequest(url, { method, agent, headers }, resolve);
      sent.once('error', reject);
      sent.end(body);
    });

  const token = async (scope = SCOPE) => {
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: env.AZURE_CLIENT_ID!,
      client_secret: env.AZURE_CLIENT_SECRET!,
      scope,
    });
    // As Microsoft's libraries put it together for this tenant, which stands for an authority of AD FS.
    assert.equal(env.AZURE_TENANT_ID, 'adfs');
    const url = `${env.AZURE_AUTHORITY_HOST}/adfs/oauth2/token`;
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const { status, body } = await read(await exchange('POST', url, headers, form.toString()));
    if (status !== 200) throw new Error(`no token: ${status} ${JSON.stringify(body)}`);
    return { token: body.access_token as string, expires: new Date(Date.now() + body.expires_in * 1000) };
  };
  const authorized = async () => {
    bearer ??= token();
    return { authorization: `Bearer ${(await bearer).token}` };
  };
  const urlOf = (path: string) => (path.startsWith('https://') ? path : `${origin}${path}`);

  return {
    ca,
    token,
    credential: {
      async getToken(scopes) {
        const { token: text, expires } = await token([scopes].flat().join(' '));
        return { token: text, expiresOnTimestamp: expires.getTime() };
      },
    },
    async send(method, path, body) {
      const headers = { ...(await authorized()), ...(body !== undefined && { 'content-type': 'application/json' }) };
      return await read(
        await exchange(method, urlOf(path), headers, body === undefined ? undefined : JSON.stringify(body)),
      );
    },
    async open(path, headers = {}) {
      return await exchange('GET', urlOf(path), { ...(await authorized()), ...headers });
    },
    close: () => agent.destroy(),
  };
}

async function read(message: IncomingMessage): Promise<Answer> {
  let text = '';
  for await (const chunk of message.setEncoding('utf8')) text += chunk;
  const json = message.headers['content-type']?.startsWith('application/json');
  return {
    status: message.statusCode!,
    headers: message.headers,
    body: text === '' ? undefined : json ? JSON.parse(text) : text,
  };
}
