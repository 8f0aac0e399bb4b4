/** Reads of a subscription below `…/providers/NS/locations/LOCATION/…`, which are no resource types: platform images, galleries that are shared. */
import type { Call } from './provider.ts';

/** A call about something in a region; the names are those of the path's `{…}`, as the caller wrote them (untrusted). */
export interface LocationCall extends Call {
  readonly subscription: string;
  /** A region's name: `westus2`. */
  readonly location: string;
  readonly names: Readonly<Record<string, string>>;
}

export interface LocationRead {
  readonly namespace: string;
  /** Behind the location: `publishers/{publisher}/artifacttypes/vmimage/offers`. Words are compared without regard to case. */
  readonly path: string;
  /** Newest first. */
  readonly apiVersions: readonly string[];
  /** What roles have to allow, on the subscription; whole: `Microsoft.Compute/locations/publishers/read`. */
  readonly permission: string;
  /** The body of the answer. Errors: its own, for what is not there. */
  read(call: LocationCall): Promise<unknown>;
}

/** The names in a path, by the pattern's `{…}`; undefined where it is another path. */
export function matchPath(pattern: string, segments: readonly string[]): Readonly<Record<string, string>> | undefined {
  const wanted = pattern.split('/');
  if (wanted.length !== segments.length) return undefined;
  const names: [string, string][] = [];
  for (const [index, word] of wanted.entries()) {
    const segment = segments[index]!;
    if (word.startsWith('{')) names.push([word.slice(1, -1), segment]);
    else if (word.toLowerCase() !== segment.toLowerCase()) return undefined;
  }
  return Object.fromEntries(names);
}

/** The type that provider documents list for it: `locations/publishers`. */
export function locationType({ path }: LocationRead): string {
  return ['locations', ...path.split('/').filter(word => !word.startsWith('{'))].join('/');
}
