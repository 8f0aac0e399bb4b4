/** Why nobody gets a token: OAuth's word for it (RFC 6749, 5.2) and Microsoft Entra's number and sentence, which clients print and programs match on. */

export type OAuthError =
  | 'invalid_request'
  | 'invalid_client'
  | 'unauthorized_client'
  | 'unsupported_grant_type'
  | 'invalid_scope'
  | 'invalid_resource'
  | 'temporarily_unavailable';

export class SignInError extends Error {
  readonly status: 400 | 401 | 429;
  readonly error: OAuthError;
  /** 7000215 of AADSTS7000215. */
  readonly number: number;

  constructor(error: OAuthError, number: number, message: string) {
    super(message);
    this.name = 'SignInError';
    this.error = error;
    this.number = number;
    this.status = error === 'invalid_client' ? 401 : error === 'temporarily_unavailable' ? 429 : 400;
  }
}
