/** What a trigger watches: the newest version of its template's source. */
import { KilnError } from '../../arm/errors.ts';
import { parseId } from '../../arm/ids.ts';
import { isNewer, type NamedVersion, newestPlatformImage } from '../../images/catalogue/newest.ts';
import { latestVersion } from '../compute/latest-version.ts';
import { findSharedDefinition } from '../compute/shared-galleries.ts';
import { parseSharedImageId } from '../compute/shared-image-id.ts';
import { requireResource } from '../life.ts';
import { listResources } from '../store.ts';
import { viewerOf } from './built-image.ts';
import type { ImageTemplate } from './normalise.ts';
import { type SourceEnvironment, userCatalogue } from './source-image.ts';

/** A definition without a version that counts as latest. Everything is news after it, and it is news to nobody. */
const NONE = 'none';
/** How long a publisher is waited for (ms): the next look comes anyway, and other triggers of this process wait meanwhile. */
const PATIENCE = 10_000;

/** `undefined`: see newestPlatformImage. Errors: those of the catalogue; ResourceNotFound for a definition that is gone; the signal's reason. */
export async function newestSource(
  template: ImageTemplate,
  environment: SourceEnvironment,
  signal: AbortSignal,
): Promise<NamedVersion | undefined> {
  const { source } = template.properties;
  if (source.type === 'PlatformImage') {
    const { publisher, offer, sku, version } = source;
    return await newestPlatformImage(
      { publisher, offer, sku, version },
      {
        cacheDirectory: environment.home.sources,
        userEntries: await userCatalogue(environment),
        signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]),
      },
    );
  }
  if (source.type === 'ManagedImage') throw new TypeError('A managed image has no versions.');
  const definition = await definitionOf(source.imageVersionId, template, environment);
  const newest = latestVersion(await listResources(environment.database, { parent: definition }), template.location);
  return { name: definition, version: newest?.name ?? NONE };
}

/** Of a gallery that somebody shares: the one behind the shared one. */
async function definitionOf(id: string, template: ImageTemplate, { database }: SourceEnvironment): Promise<string> {
  const shared = parseSharedImageId(id);
  const found = shared && (await findSharedDefinition(database, shared, viewerOf(template)));
  if (found) return found.id;
  if (shared)
    throw new KilnError('ResourceNotFound', `The image definition of ${id} is not shared with the template any more.`, {
      target: 'properties.source.imageVersionId',
    });
  const definition = id.replace(/\/versions\/[^/]+\/?$/i, '');
  parseId(definition, 'properties.source.imageVersionId');
  await requireResource(database, definition);
  return definition;
}

/**
 * Whether a build is due. The first version that is ever seen of a catalogue's image is none: it is as old as the image itself, and whoever made it made it
 * for a build.
 */
export function isNews(now: NamedVersion | undefined, seen: NamedVersion | undefined): boolean {
  if (!now || !seen || now.version === NONE) return false;
  return isNewer(now, seen);
}

/** As it is kept in `trigger_state.seen_version`: `Debian:debian-12:12-gen2 0.20261122.0`. */
export function formatSeen(version: NamedVersion | undefined): string | null {
  return version ? `${version.name} ${version.version}` : null;
}

export function parseSeen(text: string | null): NamedVersion | undefined {
  const space = text?.lastIndexOf(' ') ?? -1;
  return space < 0 ? undefined : { name: text!.slice(0, space), version: text!.slice(space + 1) };
}
