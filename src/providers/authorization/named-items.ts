/** What the types of Microsoft.Authorization have in common: items with a name at a scope, their list, and GET, PUT and DELETE of one. */
import { KilnError } from '../../arm/errors.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { ExtensionCall, ExtensionProvider } from '../extension.ts';
import type { Answer } from '../provider.ts';
import { AUTHORIZATION } from './scope.ts';

export interface NamedItems {
  /** `roleAssignments`. */
  readonly type: string;
  /** Newest first. */
  readonly apiVersions: readonly string[];
  list(call: ExtensionCall): Promise<readonly JsonObject[]>;
  /** Errors: what is said of one that is not there. */
  get?(call: ExtensionCall, name: string): Promise<JsonObject>;
  put?(call: ExtensionCall, name: string): Promise<Answer>;
  remove?(call: ExtensionCall, name: string): Promise<Answer>;
}

export function namedItems(items: NamedItems): ExtensionProvider {
  const { type, apiVersions } = items;
  const whole = `${AUTHORIZATION}/${type}`;
  return Object.freeze({
    namespace: AUTHORIZATION,
    type,
    apiVersions,
    permission({ method }) {
      if (method === 'PUT' && items.put) return 'write';
      return method === 'DELETE' && items.remove ? 'delete' : 'read';
    },
    async handle(call) {
      const [name, ...more] = call.segments;
      if (more.length > 0) throw new KilnError('NotFound', `There is nothing below ${whole}/${name}.`);
      if (name === undefined) {
        if (call.method === 'GET') return { status: 200, body: { value: await items.list(call) } };
      } else if (call.method === 'GET' || call.method === 'HEAD') {
        const body = await items.get?.(call, name);
        if (body) return call.method === 'HEAD' ? { status: 204 } : { status: 200, body };
      } else if (call.method === 'PUT' && items.put) return await items.put(call, name);
      else if (call.method === 'DELETE' && items.remove) return await items.remove(call, name);
      throw new KilnError('MethodNotAllowed', `The verb ${call.method} is not supported for '${whole}'.`);
    },
  } satisfies ExtensionProvider);
}
