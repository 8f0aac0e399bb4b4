/** `kiln principal`: who may sign in to the server. It works on the state directory, whether a server runs or not. */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { Kysely } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import { LOCAL_TENANT } from '../arm/ids.ts';
import { openDatabase } from '../database/connection.ts';
import type { Schema } from '../database/schema.ts';
import type { Credentials } from '../directory/administrator.ts';
import {
  addSecret,
  createPrincipal,
  listPrincipals,
  type Principal,
  removePrincipal,
} from '../directory/principals.ts';
import { openHome } from '../home.ts';
import { BUILT_IN_ROLES } from '../providers/authorization/built-in-roles.ts';
import { scopeKey } from '../providers/authorization/grants.ts';
import { requireScope } from '../providers/authorization/scope.ts';
import { examples, type GlobalOptions, globalOptions } from './command.ts';
import { writeCredentials } from './credentials-file.ts';
import { registerCertificates } from './principal-certificates.ts';
import { serviceLog } from './session.ts';
import { printable, table } from './terminal.ts';

interface CreateOptions {
  readonly role?: string;
  readonly scope?: string;
  readonly expires?: string;
  readonly out?: string;
}

export function register(command: Command): void {
  const create = command
    .command('create')
    .description('A new application with a secret, which is shown once.')
    .argument('<name>', 'what people call it')
    .option('--role <role>', 'what it may do: Owner, Contributor, Reader …, or the name or id of a custom role')
    .option('--scope <id>', 'where: / for everything, or the id of a subscription, resource group or resource')
    .option('--out <file>', 'where to write the secret, for this user alone; it is not printed then')
    .option('--expires <days>', 'days until the secret ends (default: never)')
    .action(async (name: string, options: CreateOptions) => {
      const global = globalOptions(create);
      const made = await withDatabase(global, database => createWithRole(database, name, options));
      const { displayName, appId, password, tenant } = made.credentials;
      if (global.json)
        print(made.file === undefined ? made.credentials : { displayName, appId, tenant, file: made.file });
      else
        process.stdout.write(
          `${table([
            ['name', printable(displayName)],
            ['client id', appId],
            made.file === undefined ? ['secret', password] : ['secret in', printable(made.file)],
            ['tenant', tenant],
          ])}\n${made.file === undefined ? 'The secret is shown only now.\n' : ''}`,
        );
    });
  const list = command
    .command('list')
    .description('Who can sign in: applications and managed identities.')
    .action(async () => {
      const global = globalOptions(list);
      const principals = await withDatabase(global, listWithRoles);
      if (global.json) print(principals);
      else
        process.stdout.write(
          principals.length === 0 ? 'There are no principals yet.\n' : table([HEAD, ...principals.map(row)]),
        );
    });
  const remove = command
    .command('delete')
    .description('Remove an application with its secrets and roles; its tokens are refused at once.')
    .argument('<id>', 'its client id or object id')
    .action(async (id: string) => {
      const global = globalOptions(remove);
      const { display_name: name } = await withDatabase(global, database => removePrincipal(database, id));
      if (global.json) print({ deleted: id, displayName: name });
      else process.stderr.write(`Removed ${printable(name)}.\n`);
    });
  registerCertificates(command, withDatabase);
  examples(command, [
    ['kiln principal create ci --role Contributor --scope /subscriptions/S', 'may do all but assign roles there'],
    ['kiln principal create me --role Owner --scope / --out me.json', 'for kiln env --credentials me.json'],
    ['kiln principal add-certificate ID cert.pem', 'then: az login --service-principal -u ID -p key-and-cert.pem'],
    ['kiln principal list', 'who there is, and what they may do where'],
    ['kiln principal delete ID', 'refuse it from now on'],
  ]);
}

async function withDatabase<T>({ home }: GlobalOptions, use: (database: Kysely<Schema>) => Promise<T>): Promise<T> {
  const database = await openDatabase({ home: await openHome({ home }), log: serviceLog });
  try {
    return await use(database.kysely);
  } finally {
    await database.close();
  }
}

async function createWithRole(
  database: Kysely<Schema>,
  name: string,
  { role, scope, expires, out }: CreateOptions,
): Promise<{ readonly credentials: Credentials; readonly file?: string }> {
  const displayName = name.trim();
  if (displayName === '' || displayName.length > 120 || printable(displayName) !== displayName)
    throw new KilnError('UsageError', 'The name of a principal has 1 to 120 printable characters.');
  if ((role === undefined) !== (scope === undefined))
    throw new KilnError('UsageError', '--role and --scope belong together.', {
      hint: 'For everything: --role Owner --scope /',
    });
  const expiresAt = expires === undefined ? undefined : endOf(expires);
  return await database.transaction().execute(async trx => {
    const principal = await createPrincipal(trx, { displayName, kind: 'Application' });
    const { secret } = await addSecret(trx, principal.object_id, expiresAt && { expiresAt });
    if (role !== undefined && scope !== undefined) {
      await requireScope(trx, scope === '/' ? '' : scope);
      await trx
        .insertInto('role_assignment')
        .values({
          id: randomUUID(),
          scope: scopeKey(scope),
          display_scope: scope,
          principal_id: principal.object_id,
          principal_type: principal.type,
          role_definition_id: await roleNamed(trx, role),
        })
        .execute();
    }
    const credentials = { displayName, appId: principal.client_id, password: secret, tenant: LOCAL_TENANT };
    // Before it is committed: a principal whose secret is lost would be of no use.
    return { credentials, ...(out !== undefined && { file: await writeCredentials(out, credentials) }) };
  });
}

function endOf(days: string): Date {
  const number = /^\d{1,5}$/.test(days) ? Number(days) : 0;
  if (number < 1) throw new KilnError('UsageError', `--expires takes a whole number of days from 1, not "${days}".`);
  return new Date(Date.now() + number * 24 * 60 * 60 * 1000);
}

interface NamedRole {
  readonly id: string;
  readonly name: string;
}

async function rolesOf(database: Kysely<Schema>): Promise<NamedRole[]> {
  return [...BUILT_IN_ROLES, ...(await database.selectFrom('role_definition').select(['id', 'name']).execute())];
}

async function roleNamed(database: Kysely<Schema>, text: string): Promise<string> {
  const roles = await rolesOf(database);
  const wanted = text.toLowerCase();
  const found = roles.find(({ id, name }) => id === wanted || name.toLowerCase() === wanted);
  if (found) return found.id;
  throw new KilnError('RoleDefinitionDoesNotExist', `There is no role ${text}.`, {
    hint: `There are: ${roles.map(({ name }) => name).join(', ')}.`,
  });
}

interface ListedPrincipal {
  readonly displayName: string;
  readonly kind: Principal['kind'];
  readonly clientId: string;
  readonly objectId: string;
  readonly resourceId?: string;
  readonly roles: readonly { readonly role: string; readonly scope: string }[];
  readonly certificates?: readonly {
    readonly thumbprint: string;
    readonly subject: string;
    readonly expires: string;
  }[];
}

async function listWithRoles(database: Kysely<Schema>): Promise<ListedPrincipal[]> {
  const names = new Map((await rolesOf(database)).map(({ id, name }) => [id, name]));
  const assignments = await database.selectFrom('role_assignment').selectAll().orderBy('scope').execute();
  const certificates = await database.selectFrom('principal_certificate').selectAll().orderBy('created_at').execute();
  const certificatesOf = (id: string) => {
    const own = certificates.filter(({ object_id }) => object_id === id);
    if (own.length === 0) return {};
    return {
      certificates: own.map(({ thumbprint, subject, not_after }) => ({
        ...{ thumbprint, subject },
        expires: not_after.toISOString(),
      })),
    };
  };
  return (await listPrincipals(database)).map(principal => ({
    displayName: principal.display_name,
    kind: principal.kind,
    clientId: principal.client_id,
    objectId: principal.object_id,
    ...(principal.resource_id !== null && { resourceId: principal.resource_id }),
    roles: assignments
      .filter(({ principal_id: id }) => id === principal.object_id)
      .map(one => ({ role: names.get(one.role_definition_id) ?? one.role_definition_id, scope: one.display_scope })),
    ...certificatesOf(principal.object_id),
  }));
}

const HEAD = ['NAME', 'KIND', 'CLIENT ID', 'OBJECT ID', 'ROLES'];

function row({ displayName, kind, clientId, objectId, roles }: ListedPrincipal): string[] {
  const text = roles.map(({ role, scope }) => `${role} at ${scope}`).join(', ');
  return [printable(displayName), kind, clientId, objectId, printable(text)];
}

const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
