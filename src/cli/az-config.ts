/**
 * A directory of az's own, registered and signed in. Its files are written directly: that takes no second process of three seconds, shows no secret in a process
 * list, and is there for an az that is installed later. Their form has been the same since az 2.30; az itself rewrites them as it likes.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, writePrivate } from '../disks/private-file.ts';
import { getIni, setIni } from './ini.ts';

export interface AzSubscription {
  readonly subscriptionId: string;
  readonly displayName: string;
  readonly state: string;
}

export interface AzCloud {
  /** The name of the cloud. */
  readonly cloud: string;
  /** As `az cloud register --cloud-config` takes it. */
  readonly config: {
    readonly endpoints: Readonly<Record<string, string>>;
    readonly suffixes: Readonly<Record<string, string>>;
  };
}

export interface AzSignIn extends AzCloud {
  readonly tenantId: string;
  readonly clientId: string;
  readonly secret: string;
  readonly subscriptions: readonly AzSubscription[];
}

interface Profile {
  readonly subscriptions?: readonly {
    readonly id: string;
    readonly isDefault?: boolean;
    readonly environmentName?: string;
    readonly user?: { readonly name?: string };
  }[];
}

/** What az remembers of a server: of no use with another one, and the addresses of the sign-in are kept for a day. */
const CACHES = ['msal_token_cache.json', 'msal_http_cache.bin', 'cloudEndpoints.json'];

/** Makes the directory what `az cloud register`, `az cloud set` and `az login --service-principal` would; settings that are there stay. */
export async function writeAzConfig(directory: string, signIn: AzSignIn): Promise<void> {
  await writeAzCloud(directory, signIn);
  await writeSecret(join(directory, 'service_principal_entries.json'), signIn);
  await writeProfile(join(directory, 'azureProfile.json'), signIn);
}

/** Without the sign-in: for `az login`, with whatever it is told. */
export async function writeAzCloud(directory: string, { cloud, config: registered }: AzCloud): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = (name: string) => join(directory, name);
  const clouds = (await readIfThere(path('clouds.config'))) ?? '';
  const endpoint = registered.endpoints.activeDirectory!;
  if (getIni(clouds, cloud, 'endpoint_active_directory') !== endpoint)
    for (const cache of CACHES) await rm(path(cache), { force: true });
  await update(path('clouds.config'), clouds, setIni(clouds, cloud, cloudValues(registered)));
  const config = await readIfThere(path('config'));
  const chosen = setIni(config ?? '', 'cloud', { name: cloud });
  // A new directory: what one does here is nobody else's business, and there is no way to tell them from some networks.
  await update(path('config'), config, config ? chosen : setIni(chosen, 'core', { collect_telemetry: 'false' }));
}

function cloudValues(config: AzCloud['config']): Record<string, string> {
  const snake = (name: string) => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
  return Object.fromEntries([
    ...Object.entries(config.endpoints).map(([name, value]) => [`endpoint_${snake(name)}`, value]),
    ...Object.entries(config.suffixes).map(([name, value]) => [`suffix_${snake(name)}`, value]),
  ]);
}

async function writeSecret(path: string, { clientId, tenantId, secret }: AzSignIn): Promise<void> {
  const text = await readIfThere(path);
  const entries = (parsed(text) as { client_id?: string; tenant?: string }[] | undefined) ?? [];
  const others = entries.filter(entry => entry.client_id !== clientId || entry.tenant !== tenantId);
  const own = { client_id: clientId, tenant: tenantId, client_secret: secret };
  await update(path, text, `${JSON.stringify([...others, own], null, 4)}\n`);
}

/** The subscriptions of this sign-in in place of those of an earlier one; the one that somebody chose stays chosen. */
async function writeProfile(path: string, signIn: AzSignIn): Promise<void> {
  const text = await readIfThere(path);
  // az writes a byte order mark.
  const profile = (parsed(text?.replace(/^\uFEFF/, '')) as Profile | undefined) ?? {};
  const before = profile.subscriptions ?? [];
  const others = before.filter(one => one.environmentName !== signIn.cloud);
  const chosen = before.find(one => one.isDefault && one.environmentName === signIn.cloud)?.id;
  const isThere = signIn.subscriptions.some(one => one.subscriptionId === chosen);
  const own = signIn.subscriptions.map(({ subscriptionId, displayName, state }, index) => ({
    id: subscriptionId,
    name: displayName,
    state,
    user: { name: signIn.clientId, type: 'servicePrincipal' },
    isDefault: isThere ? subscriptionId === chosen : index === 0,
    tenantId: signIn.tenantId,
    environmentName: signIn.cloud,
    homeTenantId: signIn.tenantId,
    managedByTenants: [],
  }));
  await update(path, text, JSON.stringify({ ...profile, subscriptions: [...others, ...own] }));
}

/** undefined for a file that az left empty or broke. */
function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '') ?? undefined;
  } catch {
    return undefined;
  }
}

async function update(path: string, before: string | undefined, after: string): Promise<void> {
  if (before !== after) await writePrivate(path, after);
}
