/**
 * Errors as Resource Manager sends them: in an envelope. Before api-version 2021-10-01 those of Image Builder itself are bare (contract 1.1); what Resource
 * Manager refuses before a provider is asked has the envelope in every version, and a header that says so (recorded with 2020-02-14).
 */
import { isSince } from '../arm/api-versions.ts';
import { asKilnError, ERRORS, type ErrorCode, type KilnError } from '../arm/errors.ts';

/** Azure's error object. `additionalInfo` carries Kiln's hint: unknown members are allowed there, and clients print them. */
export interface ArmError {
  readonly code: string;
  readonly message: string;
  readonly target?: string;
  readonly details?: readonly ArmError[];
  readonly additionalInfo?: readonly { readonly type: string; readonly info: unknown }[];
}

const ENVELOPE_SINCE = '2021-10-01';
/** Codes of Kiln's own that Azure has another word for. */
const AZURE_CODE: Readonly<Record<string, string>> = Object.freeze({
  InternalError: 'InternalServerError',
  RunInProgress: 'OperationNotAllowed',
  NotFound: 'NotFound',
});

/** Codes of Resource Manager's own refusals. */
const GATEWAY: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'AuthenticationFailed',
  'InvalidAuthenticationToken',
  'ExpiredAuthenticationToken',
  'InvalidAuthenticationTokenTenant',
  'AuthorizationFailed',
  'LinkedAuthorizationFailed',
  'ScopeLocked',
  'MissingApiVersionParameter',
  'InvalidApiVersionParameter',
  'NoRegisteredProviderFound',
  'InvalidSubscriptionId',
  'SubscriptionNotFound',
  'ResourceGroupNotFound',
  'ResourceNotFound',
  'ParentResourceNotFound',
  'InvalidResourceNamespace',
  'InvalidResourceType',
  'InvalidResourceLocation',
  'LocationRequired',
  'LocationNotAvailableForResourceType',
  'InvalidRequestContent',
  'UnsupportedMediaType',
  'RequestEntityTooLarge',
  'RequestHeaderFieldsTooLarge',
  'RequestTimeout',
  'TooManyRequests',
]);

/** Compute's sentence, which tells nobody what is wrong. */
const TELLS_NOTHING = /^The value of parameter \S+ is invalid\.$/;

/** What a caller is shown. Defects say nothing of their inside. */
export function armError(thrown: unknown): ArmError {
  const error = asKilnError(thrown);
  const details = error.details.map(armError);
  return {
    code: AZURE_CODE[error.code] ?? error.code,
    message: error.code === 'InternalError' ? 'Kiln itself failed; its service log says why.' : messageOf(error),
    ...(error.target !== undefined && { target: error.target }),
    ...(details.length > 0 && { details }),
    ...(error.hint !== undefined && { additionalInfo: [{ type: 'KilnHint', info: { hint: error.hint } }] }),
  };
}

/** Many of az's commands print messages and no `additionalInfo`: where only the hint says what is wrong, it stands in the message as well. */
function messageOf({ message, hint }: KilnError): string {
  return hint !== undefined && TELLS_NOTHING.test(message) ? `${message} ${hint}` : message;
}

export interface ErrorAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly error: KilnError;
  /** Resource Manager refused it, not a provider. */
  readonly gateway: boolean;
}

/** HTTP status and body. */
export function errorAnswer(
  thrown: unknown,
  request: { readonly namespace?: string | undefined; readonly apiVersion?: string | undefined } = {},
): ErrorAnswer {
  const error = asKilnError(thrown);
  const body = armError(error);
  const gateway = GATEWAY.has(error.code);
  const bare =
    !gateway &&
    request.namespace?.toLowerCase() === 'microsoft.virtualmachineimages' &&
    request.apiVersion !== undefined &&
    !isSince(request.apiVersion, ENVELOPE_SINCE);
  return { status: statusOf(error, request.namespace), body: bare ? body : { error: body }, error, gateway };
}

/** Compute says 409 where Image Builder says 405 (contract 2.3, 3.2). */
function statusOf({ code }: KilnError, namespace: string | undefined): number {
  if (code === 'OperationNotAllowed' && namespace?.toLowerCase() === 'microsoft.compute') return 409;
  return ERRORS[code].status;
}
