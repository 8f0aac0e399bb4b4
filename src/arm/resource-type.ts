/**
 * What a resource type is: data and a few pure functions. Ids, casing, api-versions, parents, read-only properties, storage and (later) HTTP, roles and
 * locks happen once for all types, from this definition. Nothing here does I/O.
 */
import { type ErrorCode, KilnError } from './errors.ts';
import { MOST_FINDINGS } from './findings.ts';
import type { ResourceId } from './ids.ts';
import type { JsonObject } from './shape.ts';

/** A resource as it is stored and shown. `id`, `name` and `type` come from the request's URL, never from its body. */
export interface Resource<Properties = JsonObject> {
  readonly id: string;
  readonly name: string;
  readonly type: string;
  readonly location?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly identity?: JsonObject;
  readonly sku?: JsonObject;
  /** What a type that has several calls them: StorageV2. */
  readonly kind?: string;
  readonly properties: Properties;
}

/** One broken rule: where, and what Azure says about it; the hint is in plain words. */
export interface Violation {
  /** `properties.distribute[0].runOutputName`; empty where it is no one place. */
  readonly path: string;
  readonly message: string;
  readonly hint?: string;
  /** Where it differs from the definition's `violationCode`. */
  readonly code?: ViolationCode;
}

/** Network has a code for each of its rules. */
export type ViolationCode = ErrorCode;

export interface ValidationContext {
  readonly id: ResourceId;
  /** One of the definition's. */
  readonly apiVersion: string;
  readonly now: Date;
  /** A fresh GUID: for ids that a resource gets when it is made. */
  readonly newGuid: () => string;
  /** What is there already: a PUT that changes it. */
  readonly existing?: Resource;
  /** The parent, for types that have one. */
  readonly parent?: Resource;
  /** The other resources of the type under the same parent. */
  readonly siblings: readonly Resource[];
  /** The caller is the person at this host (`kiln build`), not the API: local files may be named, and the identity may be missing. */
  readonly local: boolean;
}

export interface Validated {
  /** The body with defaults filled in, unknown and read-only parts left out. Meaningless when there are violations. */
  readonly resource: Omit<Resource, 'id' | 'name' | 'type'>;
  readonly violations: readonly Violation[];
  /** Sentences about what was ignored. */
  readonly warnings: readonly string[];
}

/**
 * How a change comes about: at once, inside the transaction that stores it; or as an operation of the engine (the resource is stored with
 * provisioningState `Creating` first).
 */
export type Life = 'at once' | 'operation';

export interface ResourceType {
  /** With its namespace, in Azure's casing. */
  readonly type: string;
  /** Newest first. */
  readonly apiVersions: readonly string[];
  /** A tracked resource has location and tags of its own; a proxy (a run output) is part of its parent. */
  readonly kind: 'tracked' | 'proxy';
  /** The type it is a child of. Others live in a resource group. */
  readonly parent?: string;
  /** Whether callers may PUT and DELETE it, and how that happens; missing: only Kiln makes them. */
  readonly create?: Life;
  readonly delete?: Life;
  /** The violation of a bad name, in Azure's words; undefined for a good one. */
  readonly checkName: (name: string) => Violation | undefined;
  readonly validate: (body: unknown, context: ValidationContext) => Validated;
  /** Where a PUT of an existing resource is refused altogether: what Azure says then. */
  readonly refuseUpdate?: string;
  /** The code under which violations are reported: ValidationFailed for image templates, InvalidParameter for most. */
  readonly violationCode: ViolationCode;
}

/** No more than a person reads and an answer carries; the last one says how many more there are. @param leftOut how many are missing already. */
export function limited(violations: readonly Violation[], leftOut = 0): readonly Violation[] {
  const total = violations.length + leftOut;
  if (total <= MOST_FINDINGS) return violations;
  const shown = violations.slice(0, MOST_FINDINGS - 1);
  return [...shown, { path: '', message: `${total - shown.length} more violations are left out.` }];
}

/** All violations as one error: the first is the message, all are details (contract 3.2: the real service stops at the first). */
export function violationError(code: ViolationCode, violations: readonly Violation[]): KilnError {
  const details = limited(violations).map(
    violation =>
      new KilnError(violation.code ?? code, violation.message, {
        ...(violation.path !== '' && { target: violation.path }),
        ...(violation.hint !== undefined && { hint: violation.hint }),
      }),
  );
  const first = details[0]!;
  return new KilnError(first.code, first.message, {
    ...(first.target !== undefined && { target: first.target }),
    ...(first.hint !== undefined && { hint: first.hint }),
    details,
  });
}
