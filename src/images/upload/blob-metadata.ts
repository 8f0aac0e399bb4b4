/** Tags as the metadata of a blob: its names are identifiers, its values go through a header. Pure. */

export interface BlobMetadata {
  readonly metadata: Readonly<Record<string, string>>;
  /** Names of the tags that a blob cannot have. */
  readonly left: readonly string[];
}

/** Of names and values together; the service takes 8 KiB, of which some is for what Kiln says itself. */
const MOST = 7 * 1024;

/** Names that differ in case alone are one name there: the first stays. */
export function blobMetadata(tags: Readonly<Record<string, string>>): BlobMetadata {
  const metadata: Record<string, string> = {};
  const left: string[] = [];
  const taken = new Set<string>();
  let size = 0;
  for (const [name, value] of Object.entries(tags)) {
    const fits =
      /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) &&
      /^[!-~]([ -~]*[!-~])?$/.test(value) &&
      !taken.has(name.toLowerCase()) &&
      size + name.length + value.length <= MOST;
    if (!fits) {
      left.push(name);
      continue;
    }
    taken.add(name.toLowerCase());
    size += name.length + value.length;
    metadata[name] = value;
  }
  return { metadata, left };
}
