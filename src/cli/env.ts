/** `kiln env`: what az, the SDKs, Terraform and curl need to know of the server, as commands of a shell. */
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { KilnError } from '../arm/errors.ts';
import { sameText } from '../arm/ids.ts';
import { isObject } from '../arm/shape.ts';
import { administratorFile, type Credentials } from '../directory/administrator.ts';
import { MANAGEMENT_RESOURCE } from '../directory/audiences.ts';
import { openKeys } from '../directory/keys.ts';
import { readIfThere } from '../disks/private-file.ts';
import { type Home, openHome } from '../home.ts';
import { CLOUD_NAME } from '../server/metadata.ts';
import { type AzCloud, type AzSubscription, writeAzCloud, writeAzConfig } from './az-config.ts';
import { examples, type GlobalOptions, globalOptions } from './command.ts';
import { connectServer, type ServerClient } from './server-file.ts';
import { writeTrustBundle } from './trust-bundle.ts';

const SHELLS = ['sh', 'powershell', 'json'] as const;
type Shell = (typeof SHELLS)[number];

interface EnvOptions {
  readonly shell: Shell;
  readonly credentials?: string;
  readonly identity?: string;
}

export function register(command: Command): void {
  command
    .addOption(new Option('--shell <name>', 'whose commands to print').choices(SHELLS).default('sh'))
    .option('--credentials <file>', 'sign in with what `kiln principal create --out` wrote (default: admin.json)')
    .option('--identity <id>', 'instead, be a managed identity: its resource id, name or client id')
    .action(async (options: EnvOptions) => env(options, globalOptions(command)));
  examples(command, [
    ['kiln env', 'eval "$(./kiln env)" sets a shell up; then: az image builder list'],
    ['kiln env --shell powershell', './kiln env --shell powershell | Out-String | Invoke-Expression'],
    ['kiln env --identity builder', 'DefaultAzureCredential and az login --identity -u CLIENTID are that identity'],
  ]);
}

async function env(options: EnvOptions, global: GlobalOptions): Promise<void> {
  const home = await openHome({ home: global.home });
  const server = await connectServer(home);
  const credentials = await readCredentials(home, options.credentials);
  const token = await signIn(server, credentials);
  const subscriptions = await subscriptionsOf(server, token);
  const variables: Record<string, string> = {
    KILN_ENDPOINT: server.origin,
    ...(await trust(home, server)),
    ...pastProxies(server, process.env),
    ...(options.identity === undefined
      ? await asPrincipal(home, server, credentials, subscriptions)
      : await asIdentity(home, server, token, options.identity, subscriptions)),
  };
  const shell = global.json ? 'json' : options.shell;
  process.stdout.write(render(variables, shell, options.identity === undefined ? [] : OF_PRINCIPALS));
  if (process.stdout.isTTY && shell === 'sh')
    process.stderr.write(
      `\nThis shell does not have them yet. Type:  eval "$(./kiln ${process.argv.slice(2).join(' ')})"\n`,
    );
}

async function readCredentials(home: Home, file: string | undefined): Promise<Credentials> {
  const path = file === undefined ? administratorFile(home) : resolve(file);
  const text = await readIfThere(path);
  if (text === undefined)
    throw new KilnError('UsageError', `There are no credentials in ${path}.`, {
      hint: 'kiln principal create NAME --role Owner --scope / --out FILE  and then  kiln env --credentials FILE',
    });
  try {
    const { appId, password, tenant, displayName } = JSON.parse(text);
    if ([appId, password, tenant].every(value => typeof value === 'string'))
      return { appId, password, tenant, displayName: String(displayName) };
  } catch {
    // said below
  }
  throw new KilnError('UsageError', `${path} does not hold what \`kiln principal create --out\` writes.`);
}

async function signIn(server: ServerClient, { appId, password }: Credentials): Promise<string> {
  const { body } = await server.ask('/adfs/oauth2/token', {
    form: {
      grant_type: 'client_credentials',
      client_id: appId,
      client_secret: password,
      scope: `${MANAGEMENT_RESOURCE}/.default`,
    },
  });
  const answer = isObject(body) ? body : {};
  if (typeof answer.access_token === 'string') return answer.access_token;
  throw new KilnError('AuthenticationFailed', `The server refused the sign-in: ${answer.error_description}`, {
    hint: 'Name other credentials with --credentials; `kiln principal create` makes some.',
  });
}

interface Listed {
  readonly value?: readonly Record<string, unknown>[];
  readonly error?: { readonly message?: string };
}

async function list(server: ServerClient, token: string, path: string): Promise<readonly Record<string, unknown>[]> {
  const { status, body } = await server.ask(path, { token });
  const { value, error } = (body ?? {}) as Listed;
  if (status === 200 && value) return value;
  throw new KilnError('AuthorizationFailed', `The server answered ${status}: ${error?.message ?? ''}`);
}

async function subscriptionsOf(server: ServerClient, token: string): Promise<AzSubscription[]> {
  const found = await list(server, token, '/subscriptions?api-version=2022-12-01');
  return found.map(({ subscriptionId, displayName, state }) => ({
    subscriptionId: String(subscriptionId),
    displayName: String(displayName),
    state: String(state),
  }));
}

/** NODE_EXTRA_CA_CERTS adds to what Node trusts; the others replace. */
async function trust(home: Home, { caPath }: ServerClient): Promise<Record<string, string>> {
  const bundle = await writeTrustBundle(home, caPath, process.env);
  return {
    REQUESTS_CA_BUNDLE: bundle,
    SSL_CERT_FILE: bundle,
    CURL_CA_BUNDLE: bundle,
    NODE_EXTRA_CA_CERTS: caPath,
  };
}

/** Where clients use a proxy, it is not the way to this server: a proxy cannot reach the loopback of this host. */
export function pastProxies({ origin }: Pick<ServerClient, 'origin'>, env: NodeJS.ProcessEnv): Record<string, string> {
  const isSet = ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'].some(name => env[name]);
  const host = new URL(origin).hostname.replace(/^\[|\]$/g, '');
  const except = (env.NO_PROXY || env.no_proxy || '').split(',').map(name => name.trim());
  if (!isSet || except.includes(host) || except.includes('*')) return {};
  const value = [...except, host].filter(name => name !== '').join(',');
  return { NO_PROXY: value, no_proxy: value };
}

async function asPrincipal(
  home: Home,
  server: ServerClient,
  { appId, password, tenant }: Credentials,
  subscriptions: readonly AzSubscription[],
): Promise<Record<string, string>> {
  // One for each: signing in elsewhere must not change who az is here.
  const directory = join(home.root, 'azure', appId.toLowerCase());
  const { body } = await server.ask('/metadata/az-cloud-config');
  await writeAzConfig(directory, {
    cloud: CLOUD_NAME,
    config: body as AzCloud['config'],
    tenantId: tenant,
    clientId: appId,
    secret: password,
    subscriptions,
  });
  const subscription = subscriptions[0]?.subscriptionId;
  return {
    AZURE_CONFIG_DIR: directory,
    ...sdk(server),
    AZURE_CLIENT_ID: appId,
    AZURE_CLIENT_SECRET: password,
    ...(subscription !== undefined && { AZURE_SUBSCRIPTION_ID: subscription, ARM_SUBSCRIPTION_ID: subscription }),
    ...terraform(server),
    ARM_TENANT_ID: tenant,
    ARM_CLIENT_ID: appId,
    ARM_CLIENT_SECRET: password,
  };
}

/** With this tenant no library asks login.microsoftonline.com whether the authority is a good one (az-wire 1.2). */
const sdk = ({ origin }: ServerClient) => ({ AZURE_AUTHORITY_HOST: origin, AZURE_TENANT_ID: 'adfs' });

/** azurerm finds everything by the metadata; azapi is told. */
const terraform = ({ origin }: ServerClient) => ({
  ARM_METADATA_HOSTNAME: new URL(origin).host,
  ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST: `${origin}/`,
  ARM_RESOURCE_MANAGER_ENDPOINT: origin,
  ARM_RESOURCE_MANAGER_AUDIENCE: MANAGEMENT_RESOURCE,
  ARM_DISABLE_INSTANCE_DISCOVERY: 'true',
  ARM_SKIP_PROVIDER_REGISTRATION: 'true',
});

/** What `kiln env` may have set in the same shell before: the SDKs would take a principal's secret first, and Terraform goes by nothing else. */
const OF_PRINCIPALS = ['AZURE_CLIENT_SECRET', 'ARM_CLIENT_ID', 'ARM_CLIENT_SECRET'];

/** App Service's variables, in both its forms; and a directory for az that knows the server, and nobody's sign-in. */
async function asIdentity(
  home: Home,
  server: ServerClient,
  token: string,
  name: string,
  subscriptions: readonly AzSubscription[],
): Promise<Record<string, string>> {
  const { clientId, principalId } = await findIdentity(server, token, name, subscriptions);
  const endpoint = `${server.origin}/msi/token`;
  const header = (await openKeys(home)).identityHeader(principalId);
  const directory = join(home.root, 'azure', clientId.toLowerCase());
  const { body } = await server.ask('/metadata/az-cloud-config');
  await writeAzCloud(directory, { cloud: CLOUD_NAME, config: body as AzCloud['config'] });
  return {
    AZURE_CONFIG_DIR: directory,
    IDENTITY_ENDPOINT: endpoint,
    IDENTITY_HEADER: header,
    MSI_ENDPOINT: endpoint,
    MSI_SECRET: header,
    // By this one az 2.45 knows App Service, and sends the secret.
    APPSETTING_WEBSITE_SITE_NAME: 'kiln',
    AZURE_CLIENT_ID: clientId,
    AZURE_AUTHORITY_HOST: server.origin,
  };
}

async function findIdentity(
  server: ServerClient,
  token: string,
  name: string,
  subscriptions: readonly AzSubscription[],
): Promise<{ clientId: string; principalId: string }> {
  const found: Record<string, unknown>[] = [];
  for (const { subscriptionId } of subscriptions) {
    const path = `/subscriptions/${subscriptionId}/providers/Microsoft.ManagedIdentity/userAssignedIdentities`;
    for (const one of await list(server, token, `${path}?api-version=2023-01-31&$top=1000`)) {
      const { clientId, principalId } = one.properties as { clientId: string; principalId: string };
      if ([one.id, one.name, clientId, principalId].some(text => sameText(String(text), name))) found.push(one);
    }
  }
  if (found.length === 1) return found[0]!.properties as { clientId: string; principalId: string };
  if (found.length === 0)
    throw new KilnError('NotFound', `There is no managed identity ${name}.`, { hint: 'See `az identity list`.' });
  throw new KilnError('UsageError', `Several managed identities are called ${name}.`, {
    hint: `Name one by its id: ${found.map(({ id }) => id).join(', ')}`,
  });
}

function render(variables: Readonly<Record<string, string>>, shell: Shell, unset: readonly string[]): string {
  const entries = Object.entries(variables);
  if (shell === 'json') return `${JSON.stringify(variables, null, 2)}\n`;
  if (shell === 'powershell')
    return [
      ...unset.map(name => `$env:${name} = $null\n`),
      ...entries.map(([name, value]) => `$env:${name} = '${value.replaceAll("'", "''")}'\n`),
    ].join('');
  // The semicolons are for an eval without quotes; comments come last for the same reason.
  const lines = unset.length > 0 ? [`unset ${unset.join(' ')};\n`] : [];
  for (const [name, value] of entries) lines.push(`export ${name}='${value.replaceAll("'", "'\\''")}';\n`);
  return lines.join('') + (variables.AZURE_CLIENT_SECRET !== undefined ? CURL_EXAMPLE : '');
}

const CURL_EXAMPLE = `# With curl and jq:
#   token=$(curl -s "$KILN_ENDPOINT/adfs/oauth2/token" -d grant_type=client_credentials -d resource=${MANAGEMENT_RESOURCE} \\
#     -d client_id="$AZURE_CLIENT_ID" -d client_secret="$AZURE_CLIENT_SECRET" | jq -r .access_token)
#   curl -s -H "Authorization: Bearer $token" "$KILN_ENDPOINT/subscriptions?api-version=2022-12-01"
`;
