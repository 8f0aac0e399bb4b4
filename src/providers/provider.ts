/**
 * What the front door needs of a resource type besides its definition: the functions that do I/O and are the type's own. Everything else (ids, casing,
 * api-versions, sign-in, roles, paging, 404s, envelopes, operation headers) happens once, in server/. What is left out here behaves as in life.ts.
 */
import type { Kysely } from 'kysely';
import type { Caller } from '../arm/caller.ts';
import type { ResourceId } from '../arm/ids.ts';
import type { Resource, ResourceType } from '../arm/resource-type.ts';
import type { JsonObject } from '../arm/shape.ts';
import type { Schema } from '../database/schema.ts';
import type { ServiceLog } from '../database/service-log.ts';
import type { Engine } from '../engine/engine.ts';
import type { Home } from '../home.ts';
import type { Doorway } from '../images/catalogue/own-door.ts';
import type { MachineFactory } from '../machines/machine.ts';
import type { Conditions } from './conditions.ts';
import type { MachinePolicy } from './image-builder/machine-choice.ts';
import type { StoredResource } from './store.ts';

export interface ProviderEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
  readonly engine: Engine;
  readonly machines: MachineFactory;
  readonly log: ServiceLog;
  readonly options: ProviderOptions;
  /** Of the server in this process, where there is one. */
  readonly doorway?: Doorway;
}

/** What an operator can choose when the server starts. */
export interface ProviderOptions {
  /** A PUT of an image template that exists replaces it, instead of the 409 that Azure gives. */
  readonly reviseTemplates: boolean;
  /** Scripts and files of templates may be fetched from this host's loopback and link-local addresses. */
  readonly localDownloads: boolean;
  /** Resources of types that Kiln does not know are refused. Default: they are kept, with a warning. */
  readonly strict?: boolean;
  /** What kind of machine builds run in. Default: virtual machines. */
  readonly machines?: MachinePolicy;
  /** How many machines of failed runs live on at a time, where templates ask for it (errorHandling). */
  readonly keptMachines?: number;
}

export interface Call {
  readonly environment: ProviderEnvironment;
  readonly caller: Caller;
  /** One of the definition's. */
  readonly apiVersion: string;
  readonly correlationId: string;
  readonly query: URLSearchParams;
  /** `https://127.0.0.1:8443`: what URLs in answers begin with. */
  readonly origin: string;
  /** Whether the caller's roles allow an action on a scope: for what a body links to. */
  may(action: string, scope: string): Promise<boolean>;
}

/** A call about one resource. */
export interface ResourceCall extends Call {
  readonly id: ResourceId;
  /** Of a change: whoever makes it judges them under the resource's lock. */
  readonly conditions?: Conditions;
}

/** A call about the resources of a type below something: a subscription, a resource group, a parent resource. */
export interface ListCall extends Call {
  readonly scope: ListScope;
  /** What will be shown. A list may hold more; it need not hold what comes before or after. */
  readonly window: { readonly after?: string; readonly limit: number };
}

export interface ListScope {
  readonly subscription: string;
  readonly resourceGroup?: string;
  /** For nested types: exists, the front door has looked. */
  readonly parent?: ResourceId;
}

export interface Answer {
  readonly status: 200 | 201 | 202 | 204;
  /** Shown as the type's `show` has it. */
  readonly resource?: Resource;
  /** Instead of a resource: as it is. */
  readonly body?: unknown;
  /** The engine's operation to poll: adds Azure-AsyncOperation, Retry-After and, for a 202, Location. `segment`: where the provider's URL has another word. */
  readonly operation?: {
    readonly id: string;
    readonly location: string;
    readonly segment?: 'operations' | 'capsOperations';
  };
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Action {
  /** What roles have to allow, below the type: `run/action`. */
  readonly permission: string;
  readonly method?: 'POST' | 'GET';
  run(call: ResourceCall, body: unknown): Promise<Answer>;
}

export interface ResourceProvider {
  readonly definition: ResourceType;
  /** How answers of this type write the segment; the real providers differ (contract 1.5). Default: resourceGroups. */
  readonly groupSegment?: 'resourcegroups' | 'resourceGroups';
  /** Answers have no ETag header: those of the real service have none. */
  readonly untagged?: true;
  /** The ETag header is a weak one, as Network writes it. */
  readonly weakTags?: true;
  /** Of all answers about resources of the type. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: the row in the store. */
  read?(call: ResourceCall): Promise<Resource | undefined>;
  /** Ordered by id. Default: the rows of the store. */
  list?(call: ListCall): Promise<readonly Resource[]>;
  /** Untrusted body. Default: putValidated for `create: 'at once'`; without `create` the verb is not allowed. */
  put?(call: ResourceCall, body: JsonObject): Promise<Answer>;
  /** Default, for tracked types: tags are replaced, properties merged (RFC 7396) and validated as a PUT. */
  patch?(call: ResourceCall, body: JsonObject): Promise<Answer>;
  /** Called for a resource that exists. Default: deleteResource for `delete: 'at once'`. */
  remove?(call: ResourceCall): Promise<Answer>;
  /** By lower-cased name: `POST …/run`. */
  readonly actions?: Readonly<Record<string, Action>>;
  /** The wire form in an api-version: what that version does not know is left out. Default: as it is stored. */
  show?(resource: Resource | StoredResource, call: Call): Promise<JsonObject> | JsonObject;
}
