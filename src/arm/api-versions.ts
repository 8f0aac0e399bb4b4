/** Api-versions are dates, some with a suffix; a type lists those it knows, newest first. */
import { KilnError } from './errors.ts';

const FORM = /^\d{4}-\d\d-\d\d(-(preview|alpha|beta|rc|privatepreview))?$/i;

/** Whether `apiVersion` already has what came with `since`. A preview counts as older than the stable version of its day. */
export function isSince(apiVersion: string, since: string): boolean {
  const [date, sinceDate] = [apiVersion.slice(0, 10), since.slice(0, 10)];
  if (date !== sinceDate) return date > sinceDate;
  return apiVersion.length <= since.length || since.length > 10;
}

/** The listed spelling of an api-version. Errors: InvalidApiVersionParameter, NoRegisteredProviderFound, both with the list of those that work. */
export function checkApiVersion(apiVersion: string, known: readonly string[], type: string, location?: string): string {
  const found = known.find(one => one.toLowerCase() === apiVersion.toLowerCase());
  if (found) return found;
  if (!FORM.test(apiVersion))
    throw new KilnError(
      'InvalidApiVersionParameter',
      `The api-version '${apiVersion}' is invalid. The supported versions are '${known.join(',')}'.`,
      { target: 'apiVersion' },
    );
  const where = location === undefined ? '' : `location '${location}' and `;
  throw new KilnError(
    'NoRegisteredProviderFound',
    `No registered resource provider found for ${where}API version '${apiVersion}' for type '${type.slice(type.indexOf('/') + 1)}'. The supported api-versions are '${known.join(', ')}'.`,
    { target: 'apiVersion' },
  );
}
