/** Resource Manager's limits for the tags of any resource: 50 of them, names of 512 and values of 256 characters; and what names cannot have. */
import { type ErrorCode, KilnError } from './errors.ts';
import { isObject } from './shape.ts';

export interface BrokenTag {
  /** Of one tag; missing where there are too many. */
  readonly name?: string;
  readonly code: ErrorCode;
  readonly reason: string;
}

const MOST = 50;
const NAME_LENGTH = 512;
const VALUE_LENGTH = 256;
const RESERVED = /[<>%&\\?/\u0000-\u001f\u007f]/;
/** The portal's own tags, which name resources by their ids. */
const HIDDEN = /^(hidden|link):|^hidden-/i;

export function brokenTags(tags: Readonly<Record<string, string | undefined>> | undefined): BrokenTag[] {
  const entries = Object.entries(tags ?? {});
  const broken: BrokenTag[] = [];
  if (entries.length > MOST)
    broken.push({
      code: 'InvalidTagCount',
      reason: `A resource can have ${MOST} tags, not ${entries.length}.`,
    });
  for (const [name, value = ''] of entries) {
    const shown = name.slice(0, NAME_LENGTH);
    if (RESERVED.test(name) && !HIDDEN.test(name))
      broken.push({
        name,
        code: 'InvalidTagNameCharacters',
        reason: `The tag names '${shown}' have reserved characters '<,>,%,&,\\,?,/' or control characters.`,
      });
    if (name.length > NAME_LENGTH)
      broken.push({
        name,
        code: 'InvalidTagName',
        reason: `Tag key too large. Following tag name '${shown}' exceeded the maximum length. Maximum allowed length for tag name - '${NAME_LENGTH}' characters.`,
      });
    if (value.length > VALUE_LENGTH)
      broken.push({
        name,
        code: 'InvalidTagValueLength',
        reason: `Tag value too large. Following tag value '${value.slice(0, VALUE_LENGTH)}' exceeded the maximum length. Maximum allowed length for tag value - '${VALUE_LENGTH}' characters.`,
      });
  }
  return broken;
}

/** Tags of an untrusted body; null ones are none. Errors: InvalidParameter, and those of brokenTags. */
export function requireTags(value: unknown): Record<string, string> {
  const entries = Object.entries(isObject(value) ? value : {}).filter(([, tag]) => tag !== null);
  if ((value !== null && !isObject(value)) || entries.some(([, tag]) => typeof tag !== 'string'))
    throw new KilnError('InvalidParameter', 'Tags are an object of texts.', { target: 'tags' });
  const tags = Object.fromEntries(entries) as Record<string, string>;
  requireWholeTags(tags);
  return tags;
}

/** Errors: those of brokenTags, for the first. */
export function requireWholeTags(tags: Readonly<Record<string, string>>): void {
  const [broken] = brokenTags(tags);
  if (broken) throw new KilnError(broken.code, broken.reason, { target: 'tags' });
}
