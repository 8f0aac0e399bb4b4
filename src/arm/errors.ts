/**
 * The error catalogue: every error that Kiln tells a user, in one place, so that a code means one thing everywhere.
 * `docs/errors.md` is generated from it; a test fails when they differ.
 */

/** Classes of errors, each with the exit code that `kiln` ends with. 130 (128 + SIGINT) is the shell's own convention. */
export const EXIT_CODES = {
  internal: 1,
  usage: 2,
  source: 3,
  build: 4,
  host: 5,
  conflict: 6,
  timeout: 7,
  denied: 8,
  canceled: 130,
} as const;

export type ErrorClass = keyof typeof EXIT_CODES;

interface CatalogueEntry {
  readonly class: ErrorClass;
  /** HTTP status when the error answers a request. */
  readonly status: number;
  /** When it happens, for the reader of docs/errors.md. */
  readonly when: string;
  /** What the user can do. */
  readonly remedy: string;
}

const entry = (errorClass: ErrorClass, status: number, when: string, remedy: string): CatalogueEntry =>
  Object.freeze({ class: errorClass, status, when, remedy });

export const ERRORS = Object.freeze({
  InternalError: entry('internal', 500, 'Kiln itself is at fault.', 'Report it with the run id and the service log.'),

  // The template and the command line
  UsageError: entry('usage', 400, 'The command line cannot be understood.', 'See `kiln COMMAND --help`.'),
  TemplateUnreadable: entry('usage', 400, 'The template file cannot be read.', 'Check the path and its permissions.'),
  InvalidRequestContent: entry(
    'usage',
    400,
    'The text is not JSON, or not of the shape of a resource.',
    'The message names line and column.',
  ),
  ValidationFailed: entry(
    'usage',
    400,
    'The template breaks a rule of the template reference.',
    'Each detail names the JSON path and the rule.',
  ),
  NotFound: entry(
    'usage',
    404,
    'What a command names does not exist.',
    'List what there is: `kiln images list`, `kiln runs list`.',
  ),

  // Resource Manager's own words (arm-contract 2.1.1, 2.3)
  LinkedInvalidPropertyId: entry(
    'usage',
    400,
    'A property should hold a resource id and does not.',
    'Write it in full: /subscriptions/…/resourceGroups/…/providers/….',
  ),
  LocationRequired: entry('usage', 400, 'A resource has no location.', 'Add one, such as "eastus".'),
  LocationNotAvailableForResourceType: entry(
    'usage',
    400,
    'A location does not exist.',
    'Take one of the list in the message.',
  ),
  InvalidApiVersionParameter: entry(
    'usage',
    400,
    'The text is no api-version.',
    'Take one of the list in the message.',
  ),
  NoRegisteredProviderFound: entry(
    'usage',
    400,
    'The resource type is not known in this api-version.',
    'Take one of the list in the message.',
  ),
  InvalidParameter: entry(
    'usage',
    400,
    'A name or a property of a resource breaks its rule.',
    'The message says which and how.',
  ),
  NotSupported: entry(
    'usage',
    400,
    'The template is valid, but this version of Kiln cannot build it.',
    'Each detail names the part; leave it out or wait for a later version.',
  ),
  ResourceNotFound: entry('usage', 404, 'A resource does not exist.', 'Check the id; make it first.'),
  ResourceGroupNotFound: entry('usage', 404, 'A resource group does not exist.', 'Make it first.'),
  ParentResourceNotFound: entry(
    'usage',
    404,
    'The resource that another one belongs to does not exist.',
    'Make the parent first.',
  ),

  MissingApiVersionParameter: entry('usage', 400, 'A request has no api-version.', 'Add ?api-version=….'),
  InvalidSubscriptionId: entry('usage', 400, 'A subscription id is no GUID.', 'See `az account list`.'),
  SubscriptionNotFound: entry('usage', 404, 'A subscription does not exist.', 'See `az account list`.'),
  InvalidResourceNamespace: entry(
    'usage',
    404,
    'Kiln has no such resource provider.',
    'See `az provider list` for those that there are.',
  ),
  InvalidResourceType: entry(
    'usage',
    404,
    'A resource provider has no such type.',
    'See `az provider show -n NAMESPACE` for those that there are.',
  ),
  MethodNotAllowed: entry(
    'usage',
    405,
    'The verb does nothing on this resource type.',
    'Read-only types have GET alone.',
  ),
  UnsupportedMediaType: entry('usage', 415, 'The body of a request is not JSON.', 'Send application/json.'),
  RequestEntityTooLarge: entry('usage', 413, 'The body of a request is too large.', 'Templates have at most 4 MiB.'),
  RequestHeaderFieldsTooLarge: entry(
    'usage',
    431,
    'The headers of a request are too large.',
    'They have at most 16 KiB, the address included.',
  ),
  RequestTimeout: entry('timeout', 408, 'A request takes too long to arrive.', 'Send it within 30 seconds.'),
  PreconditionFailed: entry(
    'conflict',
    412,
    'The resource has changed since it was read (If-Match), or is there already (If-None-Match).',
    'Read it again.',
  ),
  TooManyRequests: entry('conflict', 429, 'One caller sends more than the limit.', 'Wait as long as Retry-After says.'),

  InvalidFilterInQueryString: entry(
    'usage',
    400,
    'The $filter of a list cannot be understood, or compares something that the list does not have.',
    "Write it like resourceType eq 'Microsoft.Compute/images'.",
  ),
  LocationNotAvailableForResourceGroup: entry(
    'usage',
    400,
    'The location of a resource group does not exist.',
    'Take one of the list in the message.',
  ),
  InvalidResourceGroupLocation: entry(
    'conflict',
    409,
    'The resource group exists in another location.',
    'Choose another name, or that location.',
  ),
  ResourceGroupBeingDeleted: entry(
    'conflict',
    409,
    'The resource group is being deleted.',
    'Wait until it is gone, then make it again.',
  ),
  MissingSubscriptionRegistration: entry(
    'conflict',
    409,
    'The resource provider was unregistered from the subscription.',
    'Register it: `az provider register -n NAMESPACE`.',
  ),

  ScopeLocked: entry(
    'conflict',
    409,
    'A lock on the resource, on what it lies in or, for a deletion, on something in it forbids the change.',
    'The message names the scopes; `az lock list` shows their locks, `az lock delete` takes one away.',
  ),
  InvalidTagCount: entry('usage', 400, 'Something has more tags than there may be.', 'Take some away: 50 are allowed.'),
  InvalidTagNameCharacters: entry(
    'usage',
    400,
    'The name of a tag has characters that names cannot have.',
    'Leave out < > % & \\ ? / and control characters.',
  ),
  InvalidTagName: entry('usage', 400, 'The name of a tag is too long.', 'Shorten it to 512 characters.'),
  InvalidTagValueLength: entry('usage', 400, 'The value of a tag is too long.', 'Shorten it to 256 characters.'),
  ResourceMoveProviderValidationFailed: entry(
    'conflict',
    409,
    'Resources cannot be moved to another resource group.',
    'Make them anew there.',
  ),
  ResourceMoveNotSupported: entry('conflict', 409, 'A resource of the type cannot be moved.', 'Make it anew.'),
  LockNotFound: entry('usage', 404, 'A lock does not exist on the scope.', 'See `az lock list`.'),

  // Networks
  InvalidResourceName: entry(
    'usage',
    400,
    'A name breaks the rule for names of its type.',
    'The message says which characters it may have.',
  ),
  InvalidRequestFormat: entry(
    'usage',
    400,
    'The body of a request to a network resource has a part that cannot be read.',
    'Each detail names the place.',
  ),
  AddressPrefixStringCannotBeNullOrEmpty: entry(
    'usage',
    400,
    'A network or a subnet has no address prefix.',
    'Write one like 10.0.0.0/24.',
  ),
  InvalidAddressPrefixFormat: entry(
    'usage',
    400,
    'An address prefix is no CIDR notation.',
    'Write it like 10.0.0.0/24.',
  ),
  InvalidCIDRNotation: entry(
    'usage',
    400,
    'An address prefix has bits behind its length.',
    'Take the prefix that the message names.',
  ),
  NetcfgInvalidIPAddressPrefix: entry(
    'usage',
    400,
    'A range of addresses cannot be used by a virtual network.',
    'Take a private range, such as 10.0.0.0/16.',
  ),
  NetcfgInvalidVirtualNetworkSite: entry(
    'usage',
    400,
    'The address space of a virtual network contradicts itself.',
    'Its prefixes must not overlap.',
  ),
  NetcfgInvalidSubnet: entry(
    'usage',
    400,
    'A subnet does not fit into its virtual network, or is too small.',
    'Take a prefix of /2 to /29 inside of the address space.',
  ),
  NetcfgSubnetRangeOutsideVnet: entry(
    'usage',
    400,
    "A subnet's range is outside of the address space of its virtual network.",
    'Take a range inside of it, or add one to the address space.',
  ),
  NetcfgSubnetRangesOverlap: entry(
    'usage',
    400,
    "A subnet's range overlaps with that of another subnet.",
    'Take a range that is free.',
  ),
  InvalidResourceReference: entry(
    'usage',
    400,
    'A network resource names another one that is not there, or is in another region or subscription.',
    'Make it first, in the same region.',
  ),
  InUseSubnetCannotBeDeleted: entry(
    'conflict',
    400,
    'An image template builds in the subnet.',
    'Delete the template, or give it another subnet.',
  ),
  InUseNetworkSecurityGroupCannotBeDeleted: entry(
    'conflict',
    400,
    'A subnet has the network security group.',
    'Take it off the subnet first.',
  ),
  SecurityRuleConflict: entry(
    'usage',
    400,
    'Two security rules have one priority and direction.',
    'Give one of them another priority.',
  ),
  SecurityRuleInvalidPriority: entry(
    'usage',
    400,
    'The priority of a security rule is none.',
    'Take a number from 100 to 4096.',
  ),
  SecurityRuleInvalidPortRange: entry(
    'usage',
    400,
    'A port range of a security rule cannot be read.',
    'Write 22, 8000-8100 or *.',
  ),
  SecurityRuleInvalidAddressPrefix: entry(
    'usage',
    400,
    'An address prefix of a security rule cannot be read.',
    'Write CIDR notation, an address, a service tag or *.',
  ),
  PrivateLinkServiceCannotBeCreatedInSubnetThatHasNetworkPoliciesEnabled: entry(
    'usage',
    400,
    "The subnet of an image template applies network policies to private link services, which the service's build would need one of.",
    'az network vnet subnet update --disable-private-link-service-network-policies true',
  ),
  SubnetMissingRequiredDelegation: entry(
    'usage',
    400,
    'The subnet for containers of an image template is not delegated to them.',
    'az network vnet subnet update --delegations Microsoft.ContainerInstance/containerGroups',
  ),

  // What Kiln keeps without knowing it
  ResourceQuotaExceeded: entry(
    'conflict',
    409,
    'There are too many resources of types that Kiln keeps without knowing them, or one is too large.',
    'Delete some that are not needed.',
  ),

  // Who calls, and may
  AuthenticationFailed: entry('denied', 401, 'A request carries no token.', 'Sign in: `az login`.'),
  InvalidAuthenticationToken: entry(
    'denied',
    401,
    'The token is not one of this server, or its signature is wrong.',
    'Sign in again.',
  ),
  ExpiredAuthenticationToken: entry('denied', 401, 'The token has expired.', 'Sign in again.'),
  InvalidAuthenticationTokenTenant: entry(
    'denied',
    401,
    'The token is from another issuer.',
    'Sign in to the tenant that the answer names.',
  ),
  InvalidAuthenticationTokenAudience: entry(
    'denied',
    401,
    'The token is for something else than what it was sent to.',
    'Ask for a token for one of the audiences in the message.',
  ),
  AuthorizationFailed: entry(
    'denied',
    403,
    "The caller's roles do not allow the action.",
    'Have a role assigned: `az role assignment create`.',
  ),
  LinkedAuthorizationFailed: entry(
    'denied',
    403,
    "The caller's roles do not allow the use of something that the request links to.",
    'Have a role assigned on what the message names.',
  ),
  Unauthorized: entry(
    'denied',
    403,
    "The template's identity may not use something that the template names.",
    'Assign the identity a role on it.',
  ),
  RoleAssignmentExists: entry('conflict', 409, 'The role is assigned already.', 'Nothing needs to be done.'),
  RoleDefinitionDoesNotExist: entry('usage', 404, 'A role does not exist.', 'See `az role definition list`.'),
  RoleAssignmentNotFound: entry(
    'usage',
    404,
    'A role assignment does not exist on the scope.',
    'See `az role assignment list --scope …`.',
  ),
  InvalidRoleAssignmentId: entry('usage', 400, 'The name of a role assignment is no GUID.', 'Take a fresh one.'),
  RoleAssignmentUpdateNotPermitted: entry(
    'usage',
    400,
    'A role assignment of that name is there, for another principal, role or scope.',
    'Take a fresh GUID as the name.',
  ),
  UnmatchedPrincipalType: entry(
    'usage',
    400,
    'The principal is of another type than the request says.',
    'Leave principalType out, or correct it.',
  ),
  RoleDefinitionWithSameNameExists: entry(
    'conflict',
    409,
    'Another role has the name.',
    'Choose another name, or change that role.',
  ),
  InvalidActionOrNotAction: entry(
    'usage',
    400,
    'A role lists something that is no action.',
    'Write it like Microsoft.Compute/images/read, Microsoft.Compute/* or */read.',
  ),
  RoleDefinitionHasAssignments: entry(
    'usage',
    400,
    'A role that is to be deleted is assigned.',
    'Delete its assignments first.',
  ),
  PrincipalNotFound: entry('usage', 400, 'A principal does not exist.', 'See `kiln principal list`.'),

  // Sources, scripts, files
  SourceNotFound: entry(
    'source',
    404,
    'No catalogue entry or image stands behind the source.',
    'See `kiln catalogue list`.',
  ),
  ImageBlobNotFound: entry(
    'source',
    404,
    'A VHD is not where its URL says.',
    'Upload it; check account, container and name.',
  ),
  IncorrectImageBlobType: entry(
    'source',
    400,
    'A blob is of a type that can be no disk.',
    'Upload the VHD as a page blob or a block blob.',
  ),
  InvalidVhd: entry(
    'source',
    400,
    'A blob is no VHD that can be taken.',
    'Make a fixed one of whole MiB: qemu-img convert -O vpc -o subformat=fixed,force_size=on DISK NEW.vhd.',
  ),
  VHDSizeInvalid: entry(
    'source',
    400,
    'A VHD is too small or too large for a disk.',
    'Resize the disk before converting it.',
  ),
  AccountNameInvalid: entry(
    'usage',
    400,
    'The name of a storage account breaks its rule.',
    'Take 3 to 24 digits and lower-case letters.',
  ),
  StorageAccountAlreadyTaken: entry(
    'conflict',
    409,
    'Another storage account has the name; one name is one account’s, in all subscriptions.',
    'Choose another name: `az storage account check-name`.',
  ),
  PublicAccessNotPermitted: entry(
    'conflict',
    409,
    'A container should be readable by everybody, and its storage account forbids that.',
    'Allow it: `az storage account update --allow-blob-public-access true`.',
  ),
  ReservedResourceName: entry('usage', 400, 'The server itself has a use for the name.', 'Choose another name.'),
  StorageAccountNotFound: entry('source', 404, 'A storage account does not exist.', 'See `az storage account list`.'),
  StorageAccountLocationMismatch: entry(
    'source',
    400,
    'A VHD lies in a storage account of another region.',
    'Copy it to an account in the region of the image.',
  ),
  SourceUnusable: entry(
    'source',
    400,
    'The source disk fails its inspection: format, backing file, size.',
    'Convert it with qemu-img to a plain image.',
  ),
  ChecksumMismatch: entry(
    'source',
    400,
    'A file is not what its checksum says.',
    'Check the URL, or the checksum in the template.',
  ),
  DownloadFailed: entry('source', 502, 'A URL cannot be fetched.', 'Check the URL and the network; downloads resume.'),
  BootstrapFailed: entry(
    'source',
    502,
    'A source image could not be made from packages.',
    'Read the log named in the message.',
  ),

  // The build
  BuildFailed: entry(
    'build',
    500,
    'A phase of the build failed.',
    'The message names the phase; `kiln logs RUN` has the rest.',
  ),
  StepFailed: entry(
    'build',
    400,
    "A customizer's script ended with an error.",
    'The message names step, exit code and last lines.',
  ),
  GuestUnreachable: entry(
    'build',
    504,
    'The guest did not answer before its deadline.',
    'Read console.log of the run; KILN_BOOT_DEADLINE=SECONDS gives a slow host more time.',
  ),
  GuestStopped: entry(
    'build',
    500,
    'The guest powered itself off, restarted, panicked or found nothing to boot.',
    'No customizer may do that; read console.log of the run.',
  ),
  MachineLost: entry(
    'build',
    500,
    'The virtual machine crashed or was killed.',
    'Read the message; check memory and disk space of the host.',
  ),
  BootProofFailed: entry(
    'build',
    500,
    'The finished image does not boot or is not generalized.',
    'Read proof-console.log of the run; trace-console.log where the template has optimize.',
  ),
  DistributionFailed: entry('build', 500, 'A finished image could not be published.', 'The message names the target.'),
  UploadFailed: entry(
    'build',
    502,
    'A VHD could not be uploaded to the `uri` of its distributor.',
    'Check the uri, its signature and the network; `kiln runs retry` goes on where the upload ended.',
  ),
  WorkerLost: entry(
    'build',
    500,
    'The process that ran the build ended without finishing it.',
    'Run the template again.',
  ),

  // The host
  ToolMissing: entry('host', 500, 'A program that Kiln needs is not installed.', '`./kiln doctor` says what to type.'),
  DiskFull: entry(
    'host',
    507,
    'The file system has no space left.',
    'Free space (`kiln cache prune --all` removes what is kept between builds), or choose another --home.',
  ),
  StateUnwritable: entry(
    'host',
    500,
    'The state directory cannot be written or entered.',
    'Choose another --home or change its permissions.',
  ),
  StateTooNew: entry(
    'host',
    500,
    'The state directory was written by a newer Kiln.',
    'Use that version, or another --home.',
  ),
  DatabaseUnavailable: entry(
    'host',
    503,
    'PostgreSQL cannot be started or reached.',
    'Read the log named in the message.',
  ),
  ListenFailed: entry(
    'host',
    500,
    'The server cannot listen at its address.',
    'Choose another with --host and --port.',
  ),
  ServerUnavailable: entry('host', 503, 'No server answers for the state directory.', 'Start one: `kiln serve`.'),

  // Conflicts
  ServerRunning: entry(
    'conflict',
    409,
    'A server runs on this state directory already.',
    'Use it, end it, or take another state directory with --home.',
  ),
  Conflict: entry(
    'conflict',
    409,
    'The resource is in a state that forbids the change.',
    'Wait for the other operation, or cancel it.',
  ),
  OperationNotAllowed: entry(
    'conflict',
    405,
    'The state of the resource does not allow the operation.',
    'Wait until it is provisioned; a failed template must be made again.',
  ),
  RunInProgress: entry(
    'conflict',
    409,
    'The template is being built already.',
    '`kiln runs list` names the run; wait for it or cancel it.',
  ),
  InvalidResourceLocation: entry(
    'conflict',
    409,
    'The resource exists in another location.',
    'Choose another name, or that location.',
  ),
  PropertyChangeNotAllowed: entry(
    'conflict',
    409,
    'The property of an existing resource cannot be changed.',
    'Make another resource.',
  ),
  CannotDeleteResource: entry(
    'conflict',
    409,
    'Other resources belong to the one that is to be deleted.',
    'Delete those first.',
  ),

  Timeout: entry(
    'timeout',
    504,
    'The build took longer than buildTimeoutInMinutes.',
    'Raise it in the template (at most 960).',
  ),
  Canceled: entry('canceled', 409, 'Somebody canceled the operation.', 'Run it again.'),
});

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorOptions {
  /** Where: a JSON path, a step, a file, a URL. */
  readonly target?: string;
  /** What to try. Defaults to the catalogue's remedy where none is given. */
  readonly hint?: string;
  readonly details?: readonly KilnError[];
  /** For the operator; never shown to a caller. */
  readonly cause?: unknown;
}

/** An error for a user. Anything else that is thrown is a defect and becomes `InternalError` where it is shown. */
export class KilnError extends Error {
  readonly code: ErrorCode;
  readonly target: string | undefined;
  readonly hint: string | undefined;
  readonly details: readonly KilnError[];

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'KilnError';
    this.code = code;
    this.target = options.target;
    this.hint = options.hint;
    this.details = options.details ?? [];
  }

  get class(): ErrorClass {
    return ERRORS[this.code].class;
  }
}

/** The wire and database form of an error. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  target?: string;
  hint?: string;
  details?: ErrorBody[];
}

/** An error as plain JSON: what rows, `--json` and ARM envelopes carry. Unknown errors keep their message under InternalError. */
export function errorBody(error: unknown): ErrorBody {
  const known = asKilnError(error);
  return {
    code: known.code,
    message: known.message,
    ...(known.target !== undefined && { target: known.target }),
    ...(known.hint !== undefined && { hint: known.hint }),
    ...(known.details.length > 0 && { details: known.details.map(errorBody) }),
  };
}

/** The reverse of {@link errorBody}. */
export function errorFromBody(body: ErrorBody): KilnError {
  return new KilnError(body.code in ERRORS ? body.code : 'InternalError', body.message, {
    ...(body.target !== undefined && { target: body.target }),
    ...(body.hint !== undefined && { hint: body.hint }),
    ...(body.details && { details: body.details.map(errorFromBody) }),
  });
}

/** Gives any thrown value its place in the catalogue; a full file system is told as such wherever it shows. */
export function asKilnError(error: unknown): KilnError {
  if (error instanceof KilnError) return error;
  const cause = error as NodeJS.ErrnoException;
  const message = cause instanceof Error ? cause.message : String(error);
  // 53100 is PostgreSQL's disk_full.
  if (['ENOSPC', 'EDQUOT', '53100'].includes(cause?.code ?? ''))
    return new KilnError('DiskFull', `No space left on the file system: ${message}`, { cause: error });
  if (cause?.code === 'EROFS')
    return new KilnError('StateUnwritable', `The file system is read-only: ${message}`, { cause: error });
  if (cause?.name === 'AbortError') return new KilnError('Canceled', 'The operation was canceled.', { cause: error });
  return new KilnError('InternalError', message, { cause: error });
}
