/**
 * The strings of a template that are secrets, so that a run's log can hide them, and so that who may only read is not shown them: what URLs carry to prove that one may
 * read or write there. Other secrets in inline lines are known to be such only where they came as secure parameters, and those come with the deployment that has them.
 */
import { isObject } from '../../arm/shape.ts';

/** Parameters of a SAS that say what may be done, of versions and snapshots: words that logs need. All others may be the secret. */
const PLAIN: ReadonlySet<string> = new Set(
  'sv ss srt sr sp st se spr sip si skoid sktid skt ske sks skv saoid suoid scid sdd rscc rscd rsce rscl rsct api-version restype comp snapshot versionid ref raw'.split(
    ' ',
  ),
);
/** Of a parameter whose name does not say that it is one: shorter values are words. */
const LONG = 16;
const TELLING = /sig|token|key|secret|pass|pwd|cred|auth|code|hash|hmac/i;

/** Of all URLs in a template's properties, wherever they stand, also within a line; as they stand there, percent-encoded or not. */
export function secretsOf(properties: unknown): string[] {
  const found = new Set<string>();
  const look = (value: unknown): void => {
    if (typeof value === 'string')
      for (const url of urlsIn(value)) for (const secret of parted(url).secrets) found.add(secret);
    if (typeof value === 'string') for (const [, token = ''] of value.matchAll(BARE)) found.add(token);
    if (Array.isArray(value)) value.forEach(look);
    else if (isObject(value)) Object.values(value).forEach(look);
  };
  look(properties);
  return [...found];
}

/** The URL without what is a secret in it. */
export const withoutSecrets = (url: string): string => parted(url).rest;

/** A SAS by itself, as tools take it beside the URL. */
const BARE = /(?<![\w%])sig=([\w%+/=-]{16,})/g;
/** As a shell or JSON ends it; an ampersand, say, may have a backslash before it. */
const URL_IN_LINE = /[a-z][a-z0-9+.-]*:\/\/(?:\\[&?=%+#@:]|&amp;|[^\s"'`<>|;(){}\\])+/gi;

function urlsIn(text: string): string[] {
  const within = [...text.matchAll(URL_IN_LINE)].map(([url]) =>
    url
      .replaceAll('\\', '')
      .replaceAll('&amp;', '&')
      .replace(/[.,:!?]+$/, ''),
  );
  return isUrl(text) ? [text, ...within] : within;
}

const isUrl = (text: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(text);

/** As it is written: a URL object changes some characters, and takes none with a placeholder. */
const PARTS = /^([a-z][a-z0-9+.-]*:\/\/)(?:([^/?#]*)@)?([^?#]*)(?:\?([^#]*))?(.*)$/is;

function parted(url: string): { readonly secrets: string[]; readonly rest: string } {
  const [, scheme, user = '', place, query, fragment] = PARTS.exec(url) ?? [];
  if (scheme === undefined) return { secrets: [], rest: url };
  const [, name = '', password] = /^([^:]*)(?::(.*))?$/s.exec(user) ?? [];
  // Who has no password is a token; but at ssh, who logs in.
  const isToken = name.length >= LONG || (!password && /^https?:/i.test(scheme));
  const pairs = (query ?? '').split('&').map(pair => ({ pair, secret: secretOf(pair) }));
  const kept = pairs.filter(({ secret }) => secret === undefined).map(({ pair }) => pair);
  return {
    secrets: [isToken ? name : undefined, password, ...pairs.map(({ secret }) => secret)].filter(Boolean) as string[],
    rest: `${scheme}${user === '' || isToken || password ? '' : `${user}@`}${place}${query === undefined || kept.length === 0 ? '' : `?${kept.join('&')}`}${fragment}`,
  };
}

function secretOf(pair: string): string | undefined {
  const [, name = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(pair) ?? [];
  // A query without names can only be a token.
  const [key, secret] = value === '' ? ['', name] : [name, value];
  if (secret === '' || PLAIN.has(key.toLowerCase())) return undefined;
  return TELLING.test(key) || secret.length >= LONG ? secret : undefined;
}
