/** What Resource Manager's own paths ask of a request: its api-version, its verb, the namespace that it names. */
import { KilnError } from '../arm/errors.ts';
import { sameText } from '../arm/ids.ts';
import { findNamespace } from '../providers/registry.ts';
import type { ArmRequest } from './dispatch.ts';

/** One of `known` where that is given. Errors: MissingApiVersionParameter, InvalidApiVersionParameter. */
export function requireVersion({ query }: ArmRequest, known?: readonly string[]): string {
  const version = query.get('api-version');
  if (!version)
    throw new KilnError(
      'MissingApiVersionParameter',
      'The api-version query parameter (?api-version=) is required for all requests.',
    );
  if (known === undefined) return version;
  const found = known.find(one => sameText(one, version));
  if (found !== undefined) return found;
  throw new KilnError(
    'InvalidApiVersionParameter',
    `The api-version '${version}' is invalid. The supported versions are '${known.join(',')}'.`,
    { target: 'apiVersion' },
  );
}

export function requireNamespace(text: string): string {
  const namespace = findNamespace(text);
  if (namespace) return namespace;
  throw new KilnError('InvalidResourceNamespace', `The resource namespace '${text}' is invalid.`);
}

export function requireGet(request: ArmRequest): void {
  if (request.method !== 'GET') throw notAllowed(request);
}

export function notAllowed({ method, url }: ArmRequest): KilnError {
  return new KilnError('MethodNotAllowed', `The verb ${method} is not supported for '${url.pathname}'.`);
}

export function nothing({ url }: ArmRequest): KilnError {
  return new KilnError('NotFound', `There is nothing at ${url.pathname}.`);
}

export function isWord(text: string | undefined, word: string): boolean {
  return text?.toLowerCase() === word;
}
