/**
 * Roles, kept in memory: every request asks several times. A change is told by the database (a trigger on the tables notifies, whoever writes), so that
 * another process's is heard of, too; a refusal is only said after a look at the rows, so that a new role works at once.
 */

import type { Caller } from '../../arm/caller.ts';
import { KilnError } from '../../arm/errors.ts';
import type { Database } from '../../database/connection.ts';
import type { ServiceLog } from '../../database/service-log.ts';
import { openSession } from '../../database/session.ts';
import { type Grants, readGrants } from './grants.ts';
import type { Roles } from './roles.ts';

/** What the tables' trigger notifies on; see the migrations. */
const CHANNEL = 'kiln_roles';
/** For notifications that were lost with their connection (ms). */
const OLDEST = 5_000;
const MOST_PRINCIPALS = 2_000;

export interface OpenRoles extends Roles {
  close(): Promise<void>;
}

interface Known {
  readonly grants: Promise<Grants>;
  readonly since: number;
}

/** `oldest`: for how long to believe what nobody has said to have changed (ms). Errors: those of the first connection. */
export async function openRoles(
  database: Pick<Database, 'kysely' | 'connect'>,
  log: ServiceLog = () => {},
  oldest = OLDEST,
): Promise<OpenRoles> {
  const known = new Map<string, Known>();
  const session = await openSession({
    log,
    connect: database.connect,
    onNotification: payload => (payload === '' ? known.clear() : known.delete(payload)),
    async prepare(client) {
      await client.query(`listen ${CHANNEL}`);
      known.clear();
    },
  });

  function read(principal: string): Promise<Grants> {
    const grants = readGrants(database.kysely, principal);
    const entry = { grants, since: Date.now() };
    known.delete(principal);
    known.set(principal, entry);
    if (known.size > MOST_PRINCIPALS) known.delete(known.keys().next().value!);
    grants.catch(() => {
      if (known.get(principal) === entry) known.delete(principal);
    });
    return grants;
  }

  async function check({ objectId }: Pick<Caller, 'objectId'>, test: (grants: Grants) => boolean): Promise<boolean> {
    const principal = objectId.toLowerCase();
    const entry = known.get(principal);
    if (!entry || Date.now() - entry.since > oldest) return test(await read(principal));
    return test(await entry.grants) || test(await read(principal));
  }

  const may: Roles['may'] = (caller, action, scope) => check(caller, grants => grants.may(action, scope));
  return {
    may,
    mayData: (caller, action, scope) => check(caller, grants => grants.mayData(action, scope)),
    async require(caller, action, scope) {
      if (!(await may(caller, action, scope))) throw authorizationFailed(caller, action, scope);
    },
    async view({ objectId }) {
      return (await read(objectId.toLowerCase())).may;
    },
    async scopes({ objectId }) {
      return (await read(objectId.toLowerCase())).scopes;
    },
    close: () => session.close(),
  };
}

/** Azure's sentence. */
export function authorizationFailed(
  caller: Pick<Caller, 'type' | 'clientId' | 'objectId' | 'displayName'>,
  action: string,
  scope: string,
): KilnError {
  const client = caller.type === 'User' ? caller.displayName : caller.clientId;
  return new KilnError(
    'AuthorizationFailed',
    `The client '${client}' with object id '${caller.objectId}' does not have authorization to perform action '${action}' over scope '${scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
  );
}
