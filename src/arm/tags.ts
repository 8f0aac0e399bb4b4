/** Resource Manager's limits for the tags of any resource: 50 of them, names of 512 and values of 256 characters. */

export interface BrokenTag {
  /** Of one tag; missing where there are too many. */
  readonly name?: string;
  readonly reason: string;
}

export function brokenTags(tags: Readonly<Record<string, string | undefined>> | undefined): BrokenTag[] {
  const entries = Object.entries(tags ?? {});
  const long = entries.filter(([name, value]) => name.length > 512 || (value ?? '').length > 256);
  return [
    ...(entries.length > 50 ? [{ reason: `A resource can have 50 tags, not ${entries.length}.` }] : []),
    ...long.map(([name]) => ({ name, reason: 'The name of a tag can have 512 characters, its value 256.' })),
  ];
}
