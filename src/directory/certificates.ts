/** Certificates of applications: the public half of a key that signs a client's assertions. Only the certificate is kept; a private key never gets here. */
import { X509Certificate } from 'node:crypto';
import type { Kysely, Selectable } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import type { PrincipalCertificateTable, Schema } from '../database/schema.ts';
import { principalOfObject } from './principals.ts';

export type Certificate = Selectable<PrincipalCertificateTable>;

const LEAST_BITS = 2048;
const MOST = 20;

/** The certificate of a PEM (untrusted), which may hold its private key beside it. Errors: InvalidParameter. */
export function readCertificate(pem: string): Omit<Certificate, 'object_id' | 'created_at'> {
  const block = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(pem)?.[0];
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(block ?? '');
  } catch {
    throw invalid('There is no certificate in it.', 'Give a PEM file: -----BEGIN CERTIFICATE-----.');
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = certificate.publicKey;
  if (type !== 'rsa' || (details?.modulusLength ?? 0) < LEAST_BITS)
    throw invalid(`The key of the certificate is none of RSA with at least ${LEAST_BITS} bits.`);
  return {
    thumbprint: certificate.fingerprint.replaceAll(':', ''),
    sha256: certificate.fingerprint256.replaceAll(':', ''),
    subject: certificate.subject.replaceAll('\n', ', ').slice(0, 500),
    certificate: certificate.toString(),
    not_before: certificate.validFromDate,
    not_after: certificate.validToDate,
  };
}

/** Errors: those of readCertificate; PrincipalNotFound; Conflict for a managed identity, which has no keys of its own, and for one too many. */
export async function addCertificate(store: Kysely<Schema>, objectId: string, pem: string): Promise<Certificate> {
  const read = readCertificate(pem);
  if (read.not_after.getTime() <= Date.now())
    throw invalid(`The certificate ended at ${read.not_after.toISOString()}.`);
  const principal = await principalOfObject(store, objectId);
  if (!principal) throw new KilnError('PrincipalNotFound', `There is no principal ${objectId}.`);
  if (principal.kind !== 'Application')
    throw new KilnError('Conflict', `${principal.display_name} is a managed identity; those have no certificates.`);
  const others = (await certificatesOf(store, objectId)).filter(one => one.thumbprint !== read.thumbprint);
  if (others.length >= MOST)
    throw new KilnError('Conflict', `${principal.display_name} has ${MOST} certificates already.`);
  return await store
    .insertInto('principal_certificate')
    .values({ object_id: principal.object_id, ...read })
    .onConflict(conflict => conflict.columns(['object_id', 'thumbprint']).doUpdateSet(read))
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Whether it was there. @param thumbprint of SHA-1, as `openssl x509 -fingerprint` and Azure show it; colons and case do not matter */
export async function removeCertificate(store: Kysely<Schema>, objectId: string, thumbprint: string): Promise<boolean> {
  const { numDeletedRows } = await store
    .deleteFrom('principal_certificate')
    .where('object_id', '=', objectId)
    .where('thumbprint', '=', thumbprint.replaceAll(':', '').toUpperCase())
    .executeTakeFirst();
  return numDeletedRows > 0n;
}

export async function certificatesOf(store: Kysely<Schema>, objectId: string): Promise<readonly Certificate[]> {
  return await store.selectFrom('principal_certificate').selectAll().where('object_id', '=', objectId).execute();
}

const invalid = (message: string, hint?: string) =>
  new KilnError('InvalidParameter', message, { target: 'certificate', ...(hint !== undefined && { hint }) });
