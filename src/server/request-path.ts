/**
 * The path of a request to Resource Manager. Clients write ids untidily: in any case, with double slashes, with one at the end (az 2.45 does all three), so
 * a path is read here, once, and never compared as text.
 */

export interface ArmPath {
  readonly subscription?: string;
  readonly resourceGroup?: string;
  /** What stands before the last `/providers/`, as an id; empty for the tenant. Without a provider: all of it. */
  readonly scope: string;
  readonly namespace?: string;
  /** Segments after the namespace: of the types and of their names, in turn. One type more than names: a collection or an action. */
  readonly types: readonly string[];
  readonly names: readonly string[];
  /** Segments behind a scope that are no provider's: `resources`, `locations`, `providers`, `operationresults/…`. */
  readonly rest: readonly string[];
}

/** Longest id that Azure takes is shorter; a path with more is nobody's. */
const MOST_SEGMENTS = 64;

/**
 * Some clients (@azure/arm-locks) write a scope as one segment, its slashes encoded: `/%2Fsubscriptions%2FS/providers/…`. It is read as if they were not; what is
 * encoded besides stays so.
 */
export function withPlainScope(url: string): string {
  return url.replace(/^\/+(?:%2F)?(?:subscriptions|providers)%2F[^/?#]*/i, scope => scope.replaceAll(/%2F/gi, '/'));
}

/** Reads the raw path of a URL (without its query). `undefined` for one that cannot be decoded or is no path of Resource Manager. */
export function parsePath(raw: string): ArmPath | undefined {
  const segments: string[] = [];
  for (const part of raw.split('/')) {
    if (part === '') continue;
    const text = decoded(part);
    if (text === undefined || text === '.' || text === '..' || /[/\\\u0000-\u001f\u007f]/.test(text)) return undefined;
    segments.push(text);
  }
  if (segments.length === 0 || segments.length > MOST_SEGMENTS) return undefined;
  let at = 0;
  const is = (index: number, word: string) => segments[index]?.toLowerCase() === word;
  let subscription: string | undefined;
  let resourceGroup: string | undefined;
  if (is(0, 'subscriptions') && segments.length > 1) {
    subscription = segments[1]!;
    at = 2;
    if (is(2, 'resourcegroups') && segments.length > 3) {
      resourceGroup = segments[3]!;
      at = 4;
    }
  }
  const owner = {
    ...(subscription !== undefined && { subscription }),
    ...(resourceGroup !== undefined && { resourceGroup }),
  };
  const providers = segments.findLastIndex((_, index) => index >= at && is(index, 'providers'));
  const idOf = (end: number) => (end === 0 ? '' : `/${segments.slice(0, end).join('/')}`);
  // `/subscriptions/S/providers` lists them, and `…/providers/NS` shows one: no types there.
  if (providers === -1 || providers + 2 >= segments.length)
    return { ...owner, scope: idOf(at), types: [], names: [], rest: segments.slice(at) };
  const tail = segments.slice(providers + 2);
  return {
    ...owner,
    scope: idOf(providers),
    namespace: segments[providers + 1]!,
    types: tail.filter((_, index) => index % 2 === 0),
    names: tail.filter((_, index) => index % 2 === 1),
    rest: [],
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
