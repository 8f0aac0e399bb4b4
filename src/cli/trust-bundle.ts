/**
 * What clients trust: all that this host trusts already, and the server's authority. Variables such as REQUESTS_CA_BUNDLE replace a client's list, and a shell in
 * which nothing but Kiln can be reached would be of little use.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { writeDurably } from '../disks/durable.ts';
import { readIfThere } from '../disks/private-file.ts';
import type { Home } from '../home.ts';

/** Where systems keep their list: Debian; Fedora; Alpine and macOS. */
const SYSTEM_LISTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/cert.pem',
] as const;
/** A list that the person chose, for a proxy perhaps, comes first. */
const VARIABLES = ['REQUESTS_CA_BUNDLE', 'SSL_CERT_FILE', 'CURL_CA_BUNDLE'] as const;

/** Writes the list beside the authority and returns its path. */
export async function writeTrustBundle(home: Home, caPath: string, env: NodeJS.ProcessEnv): Promise<string> {
  const path = join(home.root, 'tls', 'bundle.pem');
  const authority = (await readIfThere(caPath)) ?? '';
  const bundle = `${(await trusted(path, env)).trimEnd()}\n${authority}`;
  if ((await readIfThere(path)) !== bundle)
    await writeDurably(path, async temporary => {
      await writeFile(temporary, bundle, { mode: 0o644 });
    });
  return path;
}

async function trusted(own: string, env: NodeJS.ProcessEnv): Promise<string> {
  const chosen = VARIABLES.map(name => env[name]).filter(path => path !== undefined && path !== own && path !== '');
  for (const path of [...chosen, ...SYSTEM_LISTS]) {
    const list = await readIfThere(path!).catch(() => undefined);
    if (list?.includes('-----BEGIN CERTIFICATE-----')) return list;
  }
  return rootCertificates.join('\n');
}
