/** From what a version's body names to what disk-source.ts opens: ids of shared images become those of the versions behind them. */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import type { Schema } from '../../database/schema.ts';
import type { SourceReference } from './disk-source.ts';
import { findSharedVersion } from './shared-galleries.ts';
import { parseSharedImageId } from './shared-image-id.ts';
import type { Viewer } from './sharing-profile.ts';
import type { VersionSource } from './version-source.ts';

export interface ResolvedReference {
  readonly reference: SourceReference;
  /** It is the viewer's to read because its gallery is shared with them. */
  readonly shared: boolean;
}

/** Errors: NotFound, for a shared image that is not there, not in the region, or not for the viewer; and for what Kiln has none of. */
export async function sourceReference(
  database: Kysely<Schema>,
  source: VersionSource,
  viewer: Viewer,
  location: string,
): Promise<ResolvedReference> {
  const { kind, path } = source;
  if (kind === 'vhd')
    return { reference: { uri: source.uri, storageAccountId: source.accountId, path }, shared: false };
  if (kind === 'image' || kind === 'version') return { reference: { id: source.id, path }, shared: false };
  const named = parseSharedImageId(source.id);
  const version = named && (await findSharedVersion(database, named, viewer, location));
  if (version) return { reference: { id: version.id, path }, shared: true };
  throw new KilnError(
    'NotFound',
    `Source ${source.id} is not found. Please check source exists, and is in the same region as gallery image version being created.`,
    { target: path },
  );
}
