/** Lists in pages: `{value, nextLink?}`. The link carries where to go on, so that what is added or removed meanwhile neither repeats nor hides others. */
import { KilnError } from '../arm/errors.ts';

const PAGE = 100;
const MOST = 1000;

/** What of a list is wanted: the items after a key, so many. */
export interface PageRequest {
  /** Compared by code points, as `collate "C"` does. */
  readonly after?: string;
  readonly size: number;
}

export interface Page<Item> {
  readonly value: readonly Item[];
  readonly nextLink?: string;
}

/** `$top` bounds a page. Errors: InvalidParameter. */
export function pageRequest(query: URLSearchParams): PageRequest {
  const top = query.get('$top');
  const size = top === null ? PAGE : /^\d{1,15}$/.test(top) ? Number(top) : 0;
  if (size < 1)
    throw new KilnError('InvalidParameter', `The value '${top}' of $top is no positive whole number.`, {
      target: '$top',
    });
  const token = query.get('$skipToken') ?? query.get('$skiptoken');
  return { ...(token !== null && { after: decode(token) }), size: Math.min(size, MOST) };
}

/** Items must be ordered by `key`; those before the window may be missing, and those behind it but one. `$top` bounds a page. Errors: InvalidParameter. */
export function page<Item>(
  items: readonly Item[],
  key: (item: Item) => string,
  query: URLSearchParams,
  url: string,
): Page<Item> {
  const { size, after } = pageRequest(query);
  const rest = after === undefined ? items : items.filter(item => key(item) > after);
  const value = rest.slice(0, size);
  if (value.length === rest.length) return { value };
  const next = new URL(url);
  for (const name of [...next.searchParams.keys()])
    if (name.toLowerCase() === '$skiptoken') next.searchParams.delete(name);
  next.searchParams.set('$skipToken', Buffer.from(key(value.at(-1)!)).toString('base64url'));
  return { value, nextLink: next.href };
}

function decode(token: string): string {
  const text = Buffer.from(token, 'base64url').toString('utf8');
  if (Buffer.from(text).toString('base64url') === token) return text;
  throw new KilnError('InvalidParameter', 'The $skipToken is none of this server.', { target: '$skipToken' });
}
