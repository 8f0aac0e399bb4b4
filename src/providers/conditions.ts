/** `If-Match` and `If-None-Match: *` (contract 2.1). They are judged where the resource is locked for the change: until then it may become another one. */
import { KilnError } from '../arm/errors.ts';
import { idKey, type ResourceId } from '../arm/ids.ts';

/** The headers as they were sent. */
export interface Conditions {
  readonly ifMatch?: string | undefined;
  readonly ifNoneMatch?: string | undefined;
}

/** Errors: PreconditionFailed. */
export function requireConditions(
  { ifMatch, ifNoneMatch }: Conditions = {},
  id: string | ResourceId,
  existing: { readonly etag: string } | undefined,
): void {
  const failed = (message: string) => new KilnError('PreconditionFailed', message, { target: idKey(id) });
  if (ifNoneMatch?.trim() === '*' && existing) throw failed('The resource exists already (If-None-Match: *).');
  if (ifMatch === undefined) return;
  const tags = ifMatch.split(',').map(tag => tag.trim().replace(/^W\//, '').replaceAll('"', ''));
  if (!existing || !(tags.includes('*') || tags.includes(existing.etag)))
    throw failed(`The condition '${ifMatch}' in the If-Match header is not fulfilled.`);
}
