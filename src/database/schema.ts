/** The tables, as Kysely sees them. Times are Dates, sizes are numbers of bytes (bigint), ids of resources are lower-cased. */
import type { ColumnType, Generated, Insertable, RawBuilder, Selectable, Updateable } from 'kysely';
import type { ErrorBody } from '../arm/errors.ts';

/** jsonb: read as the value; written with `json()` only, so that no value breaks the column (see json.ts). */
export type Json<T> = ColumnType<T, RawBuilder<T>, RawBuilder<T>>;
export type OptionalJson<T> = ColumnType<T | null, RawBuilder<T> | null | undefined, RawBuilder<T> | null>;
type Time = ColumnType<Date, Date | undefined, Date>;
type OptionalTime = ColumnType<Date | null, Date | null | undefined, Date | null>;

export type OperationStatus = 'NotStarted' | 'Running' | 'Succeeded' | 'Failed' | 'Canceled';
export type RunState = 'Running' | 'Canceling' | 'Succeeded' | 'PartiallySucceeded' | 'Failed' | 'Canceled';
export type PhaseState = 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Canceled' | 'Skipped';

export interface ResourceTable {
  /** The resource id in lower case: ids compare without case. */
  id: string;
  /** The id as its creator wrote it. */
  display_id: string;
  type: string;
  name: string;
  subscription: string | null;
  resource_group: string | null;
  parent_id: string | null;
  location: string | null;
  tags: OptionalJson<Record<string, string>>;
  identity: OptionalJson<unknown>;
  sku: OptionalJson<unknown>;
  kind: string | null;
  properties: Json<unknown>;
  /** Of a type that Kiln does not know: the members of its body that have no column. null for all others. */
  unmodelled: OptionalJson<unknown>;
  api_version: string | null;
  created_at: Time;
  changed_at: Time;
  etag: Generated<string>;
}

export interface OperationTable {
  id: string;
  kind: string;
  resource_id: string | null;
  status: ColumnType<OperationStatus, OperationStatus | undefined, OperationStatus>;
  /** The queue it was put into: the shared one, or that of the one process that may execute it. */
  queue: string;
  input: Json<unknown>;
  output: OptionalJson<unknown>;
  error: OptionalJson<ErrorBody>;
  /** Who executes it. null while Running: it was given back and waits for another. */
  worker: string | null;
  cancel_requested: Generated<boolean>;
  /** 1 for the first. */
  attempt: Generated<number>;
  /** From the start of an attempt. */
  timeout_seconds: number | null;
  /** Object id of the principal that began it; null for Kiln's own and the command line's. */
  caller: Generated<string | null>;
  created_at: Time;
  started_at: OptionalTime;
  ended_at: OptionalTime;
}

export interface RunTable {
  id: string;
  operation_id: string;
  template_id: string;
  template_name: string;
  state: ColumnType<RunState, RunState | undefined, RunState>;
  sub_state: string | null;
  message: string | null;
  error: OptionalJson<ErrorBody>;
  machine: OptionalJson<unknown>;
  plan: OptionalJson<unknown>;
  correlation_id: string | null;
  worker: string | null;
  created_at: Time;
  started_at: OptionalTime;
  ended_at: OptionalTime;
  /** The worker that holds the machine of a failed run; null when none is kept. */
  kept_by: string | null;
  /** Null while `kept_by` is set: somebody wants it gone. */
  kept_until: OptionalTime;
  kept_command: string | null;
}

export interface PhaseTable {
  run_id: string;
  index: number;
  kind: string;
  name: string;
  state: ColumnType<PhaseState, PhaseState | undefined, PhaseState>;
  /** The layer's key, where the phase makes one. */
  key: string | null;
  cached: Generated<boolean>;
  bytes: number | null;
  detail: OptionalJson<unknown>;
  error: OptionalJson<ErrorBody>;
  started_at: OptionalTime;
  ended_at: OptionalTime;
}

export interface LogLineTable {
  run_id: string;
  seq: number;
  at: Time;
  phase: number | null;
  stream: string;
  /** Untrusted: what a guest printed. Written through `text()` (see json.ts). */
  text: string;
}

export interface RunOutputTable {
  id: string;
  display_id: string;
  template_id: string;
  name: string;
  run_id: string;
  artifact_id: string | null;
  artifact_uri: string | null;
  location: string;
  path: string | null;
  /** Of the file: one of the two, see `ContentDigest`. */
  fsverity: string | null;
  sha256: string | null;
  bytes: number | null;
  virtual_size: number | null;
  created_at: Time;
}

export interface WorkerTable {
  id: string;
  host: string;
  boot_id: string;
  pid: number;
  /** Tells the process from a later one with its number: PID namespace and start time in clock ticks. */
  process: string;
  started_at: Time;
  ended_at: OptionalTime;
}

export interface PrincipalTable {
  object_id: string;
  client_id: string;
  type: 'ServicePrincipal' | 'User';
  kind: 'Application' | 'ManagedIdentity' | 'User';
  display_name: string;
  user_name: Generated<string | null>;
  /** Of a managed identity: its resource, in lower case. */
  resource_id: Generated<string | null>;
  created_at: Time;
}

export interface PrincipalSecretTable {
  id: string;
  object_id: string;
  hash: string;
  /** Its first characters, to tell secrets apart. */
  hint: string;
  created_at: Time;
  expires_at: OptionalTime;
}

export interface PrincipalCertificateTable {
  object_id: string;
  /** SHA-1 of the certificate, in capital hexadecimal digits: what Azure names it by. */
  thumbprint: string;
  sha256: string;
  subject: string;
  /** PEM. */
  certificate: string;
  not_before: ColumnType<Date, Date, Date>;
  not_after: ColumnType<Date, Date, Date>;
  created_at: Time;
}

export interface RoleDefinitionTable {
  id: string;
  name: string;
  description: Generated<string>;
  permissions: Json<readonly Permission[]>;
  assignable_scopes: Json<readonly string[]>;
  created_at: Time;
  changed_at: Time;
  created_by: Generated<string | null>;
  changed_by: Generated<string | null>;
}

/** Patterns of actions with `*`; what a `not` names is taken away again. */
export interface Permission {
  readonly actions: readonly string[];
  readonly notActions: readonly string[];
  readonly dataActions: readonly string[];
  readonly notDataActions: readonly string[];
}

export interface RoleAssignmentTable {
  id: string;
  /** In lower case; `/` is the whole tenant. */
  scope: string;
  display_scope: string;
  principal_id: string;
  principal_type: string;
  role_definition_id: string;
  description: Generated<string | null>;
  created_at: Time;
  created_by: Generated<string | null>;
}

export interface ManagementLockTable {
  /** In lower case. */
  id: string;
  scope: string;
  display_scope: string;
  name: string;
  level: 'CanNotDelete' | 'ReadOnly';
  notes: Generated<string | null>;
  owners: OptionalJson<readonly { readonly applicationId: string }[]>;
  created_at: Time;
  created_by: Generated<string | null>;
  changed_at: Time;
  changed_by: Generated<string | null>;
}

export interface TriggerStateTable {
  /** Of the trigger resource, in lower case. */
  id: string;
  /** The source's version when it was last looked at. */
  seen_version: Generated<string | null>;
  /** Failed builds in a row. */
  failures: Generated<number>;
  active: Generated<boolean>;
  checked_at: OptionalTime;
  fired_at: OptionalTime;
  last_run_id: Generated<string | null>;
}

export interface StorageKeyTable {
  /** Of the storage account, in lower case. */
  account_id: string;
  name: 'key1' | 'key2' | 'delegation';
  /** Encrypted. */
  sealed: Buffer;
  /** Id of the key that it was encrypted with. */
  wrapped_by: string;
  created_at: Time;
}

export interface BlobContainerTable {
  id: Generated<number>;
  /** Name of the storage account, in lower case. */
  account: string;
  name: string;
  etag: string;
  metadata: Json<Readonly<Record<string, string>>>;
  /** Stored access policies, as they were set. */
  policies: Json<readonly AccessPolicy[]>;
  /** What may be read without a key: the blobs, or their list as well. null: nothing. */
  public_access: Generated<'blob' | 'container' | null>;
  lease: OptionalJson<Lease>;
  created_at: Time;
  modified_at: Time;
}

/** What signatures can refer to by its id. Times are ISO 8601, as they were written. */
export interface AccessPolicy {
  readonly id: string;
  readonly start?: string;
  readonly expiry?: string;
  readonly permission?: string;
}

export interface Lease {
  readonly id: string;
  /** -1: without end. */
  readonly seconds: number;
  /** ISO 8601; null: never. */
  readonly expiresAt: string | null;
  /** Set when it was broken: from then on it is. */
  readonly breaksAt: string | null;
}

export type BlobType = 'BlockBlob' | 'PageBlob' | 'AppendBlob';

/** HTTP headers that a blob is served with. `contentMd5` is Base64. */
export interface BlobHeaders {
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly contentLanguage?: string;
  readonly contentDisposition?: string;
  readonly cacheControl?: string;
  readonly contentMd5?: string;
}

/** How a blob came to be a copy. */
export interface BlobCopy {
  readonly id: string;
  readonly source: string;
  readonly completedAt: string;
}

export interface BlobTable {
  id: Generated<number>;
  container_id: number;
  name: string;
  type: BlobType;
  size: number;
  etag: string;
  headers: Json<BlobHeaders>;
  metadata: Json<Readonly<Record<string, string>>>;
  tags: Json<Readonly<Record<string, string>>>;
  /** Of page blobs. */
  sequence_number: Generated<number>;
  /** null: the account's. */
  tier: string | null;
  lease: OptionalJson<Lease>;
  copy: OptionalJson<BlobCopy>;
  created_at: Time;
  modified_at: Time;
}

/** Where a part of a blob lies. What no row of a page blob tells is zeros. */
export interface BlobExtentTable {
  blob_id: number;
  start: number;
  length: number;
  /** Below the state directory's `blobs`. */
  file: string;
  file_offset: number;
  /** Base64, of a committed block. */
  block_id: string | null;
}

/** A block that waits for the list which makes it part of its blob. */
export interface BlobBlockTable {
  container_id: number;
  name: string;
  block_id: string;
  file: string;
  size: number;
  staged_at: Time;
}

/** Files that a row has named and does no more. */
export interface BlobGarbageTable {
  file: string;
  since: Time;
}

export interface BlobServiceTable {
  account: string;
  properties: Json<Readonly<Record<string, unknown>>>;
}

export interface ImageReplicaTable {
  /** Of the image version, in lower case. */
  version_id: string;
  /** A region's name: `westus2`. */
  region: string;
  state: 'Replicating' | 'Failed';
  /** Per cent. */
  progress: Generated<number>;
  /** Why it failed. */
  details: Generated<string>;
}

export interface Schema {
  image_replica: ImageReplicaTable;
  resource: ResourceTable;
  operation: OperationTable;
  run: RunTable;
  phase: PhaseTable;
  log_line: LogLineTable;
  run_output: RunOutputTable;
  worker: WorkerTable;
  principal: PrincipalTable;
  principal_secret: PrincipalSecretTable;
  principal_certificate: PrincipalCertificateTable;
  role_definition: RoleDefinitionTable;
  role_assignment: RoleAssignmentTable;
  trigger_state: TriggerStateTable;
  blob_container: BlobContainerTable;
  blob: BlobTable;
  blob_extent: BlobExtentTable;
  blob_block: BlobBlockTable;
  blob_garbage: BlobGarbageTable;
  blob_service: BlobServiceTable;
  management_lock: ManagementLockTable;
  storage_key: StorageKeyTable;
}

export type ResourceRow = Selectable<ResourceTable>;
export type NewResource = Insertable<ResourceTable>;
export type OperationRow = Selectable<OperationTable>;
export type RunRow = Selectable<RunTable>;
export type NewRun = Insertable<RunTable>;
export type RunUpdate = Updateable<RunTable>;
export type PhaseRow = Selectable<PhaseTable>;
export type NewPhase = Insertable<PhaseTable>;
export type LogLineRow = Selectable<LogLineTable>;
export type RunOutputRow = Selectable<RunOutputTable>;
export type BlobContainerRow = Selectable<BlobContainerTable>;
export type BlobRow = Selectable<BlobTable>;
export type BlobExtentRow = Selectable<BlobExtentTable>;
export type NewRunOutput = Insertable<RunOutputTable>;
export type WorkerRow = Selectable<WorkerTable>;
