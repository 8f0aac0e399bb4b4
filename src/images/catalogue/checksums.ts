/** Lists of checksums as distributions publish them: SHA256SUMS, SHA512SUMS, CHECKSUM. */

export interface Checksum {
  readonly file: string;
  /** Lower-case hex. */
  readonly digest: string;
}

const LENGTHS = { sha256: 64, sha512: 128 } as const;

/**
 * Reads a list (untrusted text): coreutils' `DIGEST  FILE` and `DIGEST *FILE`, and the BSD form `SHA256 (FILE) = DIGEST`.
 * Comments, signatures around it and digests of other lengths are skipped.
 */
export function parseChecksums(text: string, algorithm: 'sha256' | 'sha512'): Checksum[] {
  const found: Checksum[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [, digest, file] = /^([0-9a-fA-F]+) [ *](?:\.\/)?(\S.*?)\s*$/.exec(line) ?? [];
    const [, label, bsdFile, bsdDigest] = /^(SHA\d+) \((.+)\) = ([0-9a-fA-F]+)\s*$/.exec(line) ?? [];
    const entry =
      digest && file
        ? { file, digest }
        : label && bsdFile && bsdDigest
          ? { file: bsdFile, digest: bsdDigest }
          : undefined;
    if (label && label.toLowerCase() !== algorithm) continue;
    if (entry && entry.digest.length === LENGTHS[algorithm])
      found.push({ file: entry.file, digest: entry.digest.toLowerCase() });
  }
  return found;
}

/**
 * The day on which a listed file was made, as yyyymmdd: from the name of a file with the same digest that carries a date
 * (`AlmaLinux-9-GenericCloud-9.7-20251118.x86_64.qcow2`), else from the list's own date.
 */
export function publicationDay(list: readonly Checksum[], digest: string, published: Date): string {
  for (const { file, digest: other } of list) {
    if (other !== digest) continue;
    const day = /(?<!\d)(20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?!\d)/.exec(file)?.[1];
    if (day) return day;
  }
  return compactDay(published);
}

/** yyyymmdd in UTC. */
export function compactDay(date: Date): string {
  return date.toISOString().slice(0, 10).replaceAll('-', '');
}
