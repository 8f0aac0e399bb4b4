/** The parts of a request for blobs that signatures speak of, exactly as they came over the wire. All of it is untrusted. */

export interface RequestParts {
  readonly method: string;
  /** Lower-cased names. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Still encoded, and before a host's name was made a part of it: `/account/container/blob`, or, by host, `/container/blob`. */
  readonly path: string;
  /** Names and values are decoded; a `+` is a `+`. In their order. */
  readonly query: readonly (readonly [name: string, value: string])[];
}

/** @param url path and query, as in a request line; the form with the whole URL is a proxy's. */
export function splitTarget(url: string): Pick<RequestParts, 'path' | 'query'> {
  const target = url.replace(/^https?:\/\/[^/?]*/i, '');
  const mark = target.indexOf('?');
  const [path, query] = mark === -1 ? [target, ''] : [target.slice(0, mark), target.slice(mark + 1)];
  return {
    path: path === '' ? '/' : path,
    query: query
      .split('&')
      .filter(part => part !== '')
      .map(part => {
        const equals = part.indexOf('=');
        return equals === -1
          ? ([decoded(part), ''] as const)
          : ([decoded(part.slice(0, equals)), decoded(part.slice(equals + 1))] as const);
      }),
  };
}

export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** One value; a header that came twice is Node's list with commas. */
export function headerOf({ headers }: Pick<RequestParts, 'headers'>, name: string): string {
  const value = headers[name];
  return value === undefined ? '' : typeof value === 'string' ? value : value.join(',');
}
