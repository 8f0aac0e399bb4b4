/** Request bodies: JSON from untrusted bytes, within limits. */
import { KilnError } from '../arm/errors.ts';

/** Deeper than any template; recursion over a body must end. */
const DEEPEST = 64;

/** `undefined` for an empty body. Errors: UnsupportedMediaType, InvalidRequestContent. */
export function parseBody(bytes: Buffer, contentType: string | undefined): unknown {
  if (bytes.length === 0) return undefined;
  // `application/json; charset=utf-8`, `application/merge-patch+json`, and clients that name none.
  if (contentType !== undefined && !/^application\/([\w.-]+\+)?json\b/i.test(contentType))
    throw new KilnError('UnsupportedMediaType', `The content type '${contentType.slice(0, 100)}' is not supported.`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch (error) {
    throw new KilnError(
      'InvalidRequestContent',
      `The request content was invalid and could not be deserialized: '${(error as Error).message}'.`,
    );
  }
  if (isTooDeep(value))
    throw new KilnError(
      'InvalidRequestContent',
      `The request content was invalid and could not be deserialized: 'It is nested more than ${DEEPEST} levels deep.'.`,
    );
  return value;
}

/** Without recursion, since the value may be as deep as the body is long. */
function isTooDeep(value: unknown): boolean {
  let level = [value].filter(isContainer);
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > DEEPEST) return true;
    const next: object[] = [];
    for (const one of level) for (const inner of Object.values(one)) if (isContainer(inner)) next.push(inner);
    level = next;
  }
  return false;
}

const isContainer = (value: unknown): value is object => typeof value === 'object' && value !== null;
