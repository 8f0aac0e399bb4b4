/** Types that hang on any other resource, group or subscription: roles, and Kiln's own view of runs. */
import type { Answer, Call } from './provider.ts';

export interface ExtensionCall extends Call {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'PATCH' | 'POST' | 'DELETE';
  /** As the caller wrote it; empty for the tenant. */
  readonly scope: string;
  /** What stands behind the type, name and further segments; empty for the collection. */
  readonly segments: readonly string[];
  readonly body: unknown;
  /** Aborts when the client has gone. */
  readonly signal: AbortSignal;
  /** The headers that choose a form of the answer, and where a stream of events goes on. */
  readonly accept?: string | undefined;
  readonly lastEventId?: string | undefined;
  /** Errors: ResourceNotFound, ResourceGroupNotFound, InvalidResourceType, where there is nothing at the scope. */
  requireScope(): Promise<void>;
}

/** An answer may also be a stream, for logs that are followed. */
export type ExtensionAnswer =
  | Answer
  | { readonly status: 200; readonly contentType: string; readonly stream: AsyncIterable<string | Uint8Array> };

export interface ExtensionProvider {
  readonly namespace: string;
  /** One segment: `roleAssignments`. */
  readonly type: string;
  /** Newest first. */
  readonly apiVersions: readonly string[];
  /** Locks do not hold what is done with it: the locks themselves. */
  readonly beyondLocks?: true;
  /** What roles have to allow, on the scope; without the namespace and type: `read`, `write`, `delete`. */
  permission(call: Pick<ExtensionCall, 'method' | 'segments'>): string;
  handle(call: ExtensionCall): Promise<ExtensionAnswer>;
}
