/** `kiln principal add-certificate` and `delete-certificate`: sign-in with a certificate instead of a secret. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Kysely } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import type { Schema } from '../database/schema.ts';
import { addCertificate, removeCertificate } from '../directory/certificates.ts';
import { findPrincipal, type Principal } from '../directory/principals.ts';
import { type GlobalOptions, globalOptions } from './command.ts';
import { printable, table } from './terminal.ts';

const LARGEST = 64 * 1024;

type WithDatabase = <T>(global: GlobalOptions, use: (database: Kysely<Schema>) => Promise<T>) => Promise<T>;

export function registerCertificates(command: Command, withDatabase: WithDatabase): void {
  const add = command
    .command('add-certificate')
    .description('Let an application sign in with a certificate (RSA); its private key stays with the client.')
    .argument('<id>', 'its client id or object id')
    .argument('<file>', 'PEM; a private key in it is not read')
    .action(async (id: string, file: string) => {
      const global = globalOptions(add);
      const pem = await readPem(file);
      const made = await withDatabase(global, async database =>
        addCertificate(database, (await require(database, id)).object_id, pem),
      );
      const shown = { thumbprint: made.thumbprint, subject: made.subject, expires: made.not_after.toISOString() };
      if (global.json) process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
      else
        process.stdout.write(
          table(Object.entries(shown).map(([name, value]): [string, string] => [name, printable(value)])),
        );
    });
  const remove = command
    .command('delete-certificate')
    .description('Refuse sign-ins with a certificate from now on.')
    .argument('<id>', 'the client id or object id of the application')
    .argument('<thumbprint>', 'as `kiln --json principal list` and `openssl x509 -noout -fingerprint` show it')
    .action(async (id: string, thumbprint: string) => {
      const global = globalOptions(remove);
      const name = await withDatabase(global, async database => {
        const principal = await require(database, id);
        if (await removeCertificate(database, principal.object_id, thumbprint)) return principal.display_name;
        throw new KilnError('NotFound', `${principal.display_name} has no certificate ${thumbprint}.`, {
          hint: 'See `kiln --json principal list`.',
        });
      });
      if (global.json) process.stdout.write(`${JSON.stringify({ deleted: thumbprint, displayName: name }, null, 2)}\n`);
      else process.stderr.write(`Removed a certificate of ${printable(name)}.\n`);
    });
}

async function readPem(file: string): Promise<string> {
  const path = resolve(file);
  try {
    const content = await readFile(path);
    if (content.length <= LARGEST) return content.toString('latin1');
  } catch (error) {
    throw new KilnError('UsageError', `${path} cannot be read: ${(error as Error).message}`);
  }
  throw new KilnError('UsageError', `${path} is too large for a certificate.`);
}

async function require(database: Kysely<Schema>, id: string): Promise<Principal> {
  const found = await findPrincipal(database, id);
  if (found) return found;
  throw new KilnError('PrincipalNotFound', `There is no principal ${id}.`, { hint: 'See `kiln principal list`.' });
}
