/** Where this host gets packages from, by its own apt configuration. */
import { run } from '../../../processes/process.ts';
import type { Distribution } from './distributions.ts';

/** Suites of a release that make up a system kept up to date. */
const SUITES = ['', '-updates', '-security'];

/**
 * Lines for sources.list, taken from the host's apt: the mirrors that work here, main component only. Empty when the host has
 * no apt, or no such release in it: then mmdebstrap's own choice stands.
 */
export async function hostMirrors({ origin }: Distribution, release: string, signal?: AbortSignal): Promise<string[]> {
  const format = '$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(CODENAME)';
  try {
    const { stdout } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'], {
      ...(signal && { signal }),
    });
    return parseIndexTargets(stdout, origin, release);
  } catch {
    signal?.throwIfAborted();
    return [];
  }
}

/** `URI|release|component|origin|codename` lines of `apt-get indextargets` → `deb` lines for one release of the archive of that origin. */
export function parseIndexTargets(text: string, wanted: string, release: string): string[] {
  const lines = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [uri, suite, component, origin, codename] = line.split('|');
    if (!uri || !suite || component !== 'main' || origin !== wanted) continue;
    const known = SUITES.map(end => release + end).find(name => name === codename || name === suite);
    // Credentials must not end up in an image; only http(s) works from inside of one.
    if (!known || !/^https?:\/\/[^/@]+(\/|$)/.test(uri)) continue;
    if (!lines.has(known)) lines.set(known, `deb ${uri} ${known} main`);
  }
  return lines.has(release) ? [...lines.values()] : [];
}

/** The proxy that apt on this host goes through, as environment of another apt. */
export async function hostProxy(signal?: AbortSignal): Promise<NodeJS.ProcessEnv> {
  const query = ['shell', 'HTTP', 'Acquire::http::Proxy', 'HTTPS', 'Acquire::https::Proxy'];
  try {
    const { stdout } = await run('apt-config', query, { ...(signal && { signal }) });
    const http = /^HTTP='([^']+)'$/m.exec(stdout)?.[1];
    const https = /^HTTPS='([^']+)'$/m.exec(stdout)?.[1];
    return { ...(http && { http_proxy: http }), ...(https && { https_proxy: https }) };
  } catch {
    signal?.throwIfAborted();
    return {};
  }
}
