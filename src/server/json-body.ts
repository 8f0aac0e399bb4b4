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
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    throw new KilnError(
      'InvalidRequestContent',
      `The request content was invalid and could not be deserialized: '${(error as Error).message}'.`,
    );
  }
  if (isTooDeep(text))
    throw new KilnError(
      'InvalidRequestContent',
      `The request content was invalid and could not be deserialized: 'It is nested more than ${DEEPEST} levels deep.'.`,
    );
  return value;
}

/** How deep the brackets of a JSON text stand in each other. The text is gone through, not the value: that takes a tenth of the time. */
function isTooDeep(json: string): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (inString) {
      if (character === '\\') at += 1;
      else if (character === '"') inString = false;
    } else if (character === '"') inString = true;
    else if (character === '{' || character === '[') {
      depth += 1;
      if (depth > DEEPEST) return true;
    } else if (character === '}' || character === ']') depth -= 1;
  }
  return false;
}
