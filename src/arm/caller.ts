/** Who calls, as a token says. Nobody else gets as far as a resource. */
export interface Caller {
  /** The principal's object id: what role assignments name. */
  readonly objectId: string;
  /** The application (client) id; a user has that of the client it uses. */
  readonly clientId: string;
  readonly tenantId: string;
  readonly type: 'ServicePrincipal' | 'User';
  readonly displayName: string;
}
