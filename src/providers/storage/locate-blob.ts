/** Where the bytes of a blob lie, for whoever takes a disk out of a storage account. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Piece, pieces } from '../../blobs/extents.ts';
import { blobWithExtents } from '../../blobs/rows.ts';
import type { BlobType } from '../../database/schema.ts';
import { stagedBlob } from '../image-builder/staged-blobs.ts';
import type { ProviderEnvironment } from '../provider.ts';
import { findAccount } from './find-account.ts';

interface Located {
  readonly size: number;
  readonly type: BlobType;
  readonly etag: string;
}

/** In one file: `size` bytes from `offset` (default: 0). */
export interface LocatedFile extends Located {
  readonly path: string;
  readonly offset?: number;
}

export interface LocatedChunk {
  /** undefined: zeros. */
  readonly path: string | undefined;
  /** In the file. */
  readonly offset: number;
  readonly size: number;
}

/** In several files, one after the other. */
export interface LocatedChunks extends Located {
  readonly chunks: readonly LocatedChunk[];
}

export type LocatedBlob = LocatedFile | LocatedChunks;

/**
 * Committed bytes, also of the blobs that runs leave; undefined when there is no such blob. All names are untrusted. Files go when the blob is overwritten or
 * deleted: what is missing when it is opened was changed meanwhile.
 */
export async function locateBlob(
  environment: Pick<ProviderEnvironment, 'database' | 'home'>,
  account: string,
  container: string,
  blob: string,
): Promise<LocatedBlob | undefined> {
  const found = await findAccount(environment.database, account);
  if (!found) return undefined;
  const own = await stagedBlob(environment, found, container, blob);
  if (own) {
    const { path, type, etag } = own;
    const { size } = await stat(path);
    return { path, size, type, etag };
  }
  const stored = await blobWithExtents(environment.database, { account: found.name, container, blob });
  if (!stored) return undefined;
  const { size, type, etag } = stored.blob;
  const chunks = pieces(stored.extents, { start: 0, end: size }).map(piece => chunkOf(environment.home.blobs, piece));
  const [only, ...others] = chunks;
  if (only?.path !== undefined && others.length === 0)
    return { path: only.path, offset: only.offset, size, type, etag };
  return { chunks, size, type, etag };
}

const chunkOf = (directory: string, { file, offset, length }: Piece): LocatedChunk => ({
  path: file === undefined ? undefined : join(directory, file),
  offset,
  size: length,
});
