/** Errors as callers are told of them: of a defect no more than that it is one. Rows and the service log have the rest, for the operator. */
import type { ErrorBody, KilnError } from './errors.ts';

/** Image Builder's own sentence (contract 3.2). */
const INTERNAL =
  'Internal error occurred. This is a generic error. To identify possible causes, go to https://aka.ms/azvmimagebuilderts.';

export function publicMessage({ code, message }: Pick<ErrorBody | KilnError, 'code' | 'message'>): string {
  return code === 'InternalError' ? INTERNAL : message;
}

export function publicError(body: ErrorBody): ErrorBody {
  return {
    ...body,
    message: publicMessage(body),
    ...(body.details && { details: body.details.map(publicError) }),
  };
}
