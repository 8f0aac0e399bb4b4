/** How the content of a disk's file is known again. */
import { sha256File } from './hash.ts';
import { type PassOptions, passOverFile } from './pass.ts';

/** One of the two. Of files that Kiln makes the first: it is to be had while copying, for the price of the data alone. */
export interface ContentDigest {
  /** As `VerityDigest` gives. */
  readonly fsverity?: string;
  /** Of the whole file, in lower-case hex: what its publisher says, or an older Kiln said. */
  readonly sha256?: string;
}

/** Just the digest, of anything that has one. Errors: TypeError for what has none. */
export function contentOf({ fsverity, sha256 }: NullableDigest): ContentDigest {
  if (fsverity) return { fsverity };
  if (sha256) return { sha256 };
  throw new TypeError('a file without a digest');
}

/** For people: `fsverity sha256:…` or `sha256 …`. */
export function contentText(digest: NullableDigest): string {
  return Object.entries(contentOf(digest))[0]!.join(' ');
}

/** As rows of the database have it. */
type NullableDigest = { readonly [Kind in keyof ContentDigest]?: string | null | undefined };

/** The digest that a file has now, of the kind of one that is known. Errors: the file system's; the signal's reason. */
export async function contentOfFile(
  path: string,
  known: ContentDigest,
  options: Pick<PassOptions, 'signal' | 'onProgress'> = {},
): Promise<ContentDigest> {
  if (known.fsverity) return { fsverity: (await passOverFile(path, options)).fsverity };
  const { signal, onProgress } = options;
  const sha256 = await sha256File(path, {
    ...(signal && { signal }),
    ...(onProgress && { onProgress: (done, total) => onProgress(done / total) }),
  });
  return { sha256 };
}
