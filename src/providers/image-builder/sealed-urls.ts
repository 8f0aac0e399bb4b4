/**
 * URLs of templates at rest: where one has a secret in it (a SAS, a password), what is stored says the rest of it for all to read, and has the whole encrypted in a parameter of
 * its query, with the key that keys of storage accounts are kept with. It is still a URL. What an older Kiln stored in plain text is read all the same, and encrypted when it is
 * written next.
 */
import { KilnError } from '../../arm/errors.ts';
import { idKey } from '../../arm/ids.ts';
import { isObject } from '../../arm/shape.ts';
import type { Home } from '../../home.ts';
import { openWrappingKey } from '../storage/wrapping-key.ts';
import { withoutSecrets } from './secrets.ts';

type State = Pick<Home, 'root'>;

/** The members of a template that are URLs. */
const FIELDS: ReadonlySet<string> = new Set(['scriptUri', 'sourceUri', 'uri']);
const SEALED = /[?&]kiln-sealed=([\w-]+)$/;

/** For the database. What looks sealed is the caller's own word, and is sealed as all else: open it before. */
export async function sealUrls<T>(value: T, templateId: string, home: State): Promise<T> {
  const isToSeal = (url: string) => withoutSecrets(url) !== url || SEALED.test(url);
  if (!urlsOf(value).some(isToSeal)) return value;
  const key = await openWrappingKey(home);
  return withUrls(value, url => {
    if (!isToSeal(url)) return url;
    const shown = withoutSecrets(url);
    const sealed = key.seal(Buffer.from(url), contextOf(templateId)).toString('base64url');
    return `${shown}${shown.includes('?') ? '&' : '?'}kiln-sealed=${sealed}`;
  });
}

/** As they were given. Errors: StateUnwritable where they were sealed with another key, or for another template. */
export async function openUrls<T>(value: T, templateId: string, home: State): Promise<T> {
  if (!urlsOf(value).some(url => SEALED.test(url))) return value;
  const key = await openWrappingKey(home);
  return withUrls(value, url => {
    const sealed = SEALED.exec(url)?.[1];
    if (sealed === undefined) return url;
    try {
      return key.open(Buffer.from(sealed, 'base64url'), contextOf(templateId)).toString();
    } catch (cause) {
      throw new KilnError('StateUnwritable', `A URL of ${templateId} cannot be decrypted.`, {
        hint: 'It was stored with another storage.key: put that file into the state directory, or make the template again.',
        cause,
      });
    }
  });
}

/** The resource of a template, with its URLs as they were given. Errors: those of openUrls. */
export const openTemplate = async <T extends { readonly id: string; readonly properties: object }>(
  template: T,
  home: State,
): Promise<T> => ({ ...template, properties: await openUrls(template.properties, template.id, home) });

/** For who may read, and not write there: sealed or not, without what is secret. */
export const urlsWithoutSecrets = <T>(value: T): T => withUrls(value, withoutSecrets);

export const hasSecretUrls = (value: unknown): boolean => urlsOf(value).some(url => withoutSecrets(url) !== url);

const contextOf = (templateId: string): string => `${idKey(templateId)} url`;

function urlsOf(value: unknown): string[] {
  const found: string[] = [];
  withUrls(value, url => {
    found.push(url);
    return url;
  });
  return found;
}

function withUrls<T>(value: T, change: (url: string) => string): T {
  const changed = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(changed);
    if (!isObject(part)) return part;
    return Object.fromEntries(
      Object.entries(part).map(([name, inner]) => [
        name,
        typeof inner === 'string' && FIELDS.has(name) ? change(inner) : changed(inner),
      ]),
    );
  };
  return changed(value) as T;
}
