/**
 * The certificate that the server shows, from an authority of the state directory's own: clients trust that one (`kiln env` says how) and need no
 * change when the server's certificate is renewed. Both have what OpenSSL's strict checks ask for, which Python 3.13 switches on.
 */
import { createPrivateKey, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import { writeDurably } from '../disks/durable.ts';
import { readIfThere, readOrMakePrivate, writePrivate } from '../disks/private-file.ts';
import type { Home } from '../home.ts';

const DAY = 24 * 60 * 60 * 1000;
const AUTHORITY_LIFE = 3650 * DAY;
/** Apple's clients refuse longer ones, from private authorities as well. */
const SERVER_LIFE = 825 * DAY;
/** A server may run this long without a start. */
const RENEW_BEFORE = 180 * DAY;
/** Clocks of clients may be slow. */
const BACKDATED = DAY;

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** Names that every server has. OpenSSL does not take a wildcard right below a top-level name; the blob endpoints' lies deeper. */
const LOCAL_NAMES = ['localhost', '*.localhost', '*.blob.localhost', '*.blob.core.localhost', '127.0.0.1', '::1'];
const DNS_NAME = /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export interface Tls {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
  /** File with the authority's certificate, for clients. */
  readonly caPath: string;
}

export interface TlsOptions {
  /** Names and addresses that clients use, besides those of this host and its loopback. */
  readonly hosts: readonly string[];
  readonly now?: Date;
}

/** Makes what is missing, has ended or ends soon. Errors: StateUnwritable for damaged files; those of the file system. */
export async function openTls(home: Home, options: TlsOptions): Promise<Tls> {
  const now = options.now ?? new Date();
  const directory = join(home.root, 'tls');
  // Other users of the host may read the authority's certificate, where they may pass through the state directory at all.
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const authority = await openAuthority(join(directory, 'authority.pem'), now);
  const caPath = join(directory, 'ca.pem');
  if ((await readIfThere(caPath)) !== authority.cert)
    await writeDurably(caPath, async temporary => {
      await writeFile(temporary, authority.cert);
      await chmod(temporary, 0o644);
    });
  const path = join(directory, 'server.pem');
  const found = await readIfThere(path);
  const old = found === undefined ? undefined : tryRead(found);
  const names = wantedNames(options.hosts);
  if (old && serves(old, authority, names, now)) return { ...text(old), caPath };
  const kept = old?.certificate.subjectAltName ? namesOf(old.certificate) : [];
  const made = await makeServer(authority, [...new Set([...names, ...kept])], now);
  await writePrivate(path, `${made.key}${made.cert}`);
  return { ...made, caPath };
}

interface Pair {
  readonly key: string;
  readonly cert: string;
  readonly certificate: X509Certificate;
}

async function openAuthority(path: string, now: Date): Promise<Pair> {
  const make = async () => {
    const { key, cert } = await makeAuthority(now);
    return `${key}${cert}`;
  };
  const pair = read(await readOrMakePrivate(path, make), path);
  if (lasts(pair.certificate, now)) return pair;
  await writePrivate(path, await make());
  return read((await readIfThere(path))!, path);
}

function wantedNames(hosts: readonly string[]): string[] {
  const given = [...hosts, hostname()].map(host => host.toLowerCase().replace(/^\[|\]$/g, ''));
  const sound = given.filter(host => isIP(host) !== 0 || DNS_NAME.test(host));
  const accounts = sound
    .filter(host => isIP(host) === 0 && !host.startsWith('*.'))
    .flatMap(host => [`*.blob.${host}`, `*.blob.core.${host}`]);
  // The addresses that mean "all of this host's" are nobody's.
  return [...new Set([...LOCAL_NAMES, ...sound, ...accounts.filter(name => DNS_NAME.test(name))])].filter(
    name => name !== '0.0.0.0' && name !== '::',
  );
}

const lasts = (certificate: X509Certificate, now: Date): boolean =>
  certificate.validToDate.getTime() - now.getTime() > RENEW_BEFORE && certificate.validFromDate <= now;

function serves(server: Pair, authority: Pair, names: readonly string[], now: Date): boolean {
  const { certificate } = server;
  const has = new Set(namesOf(certificate));
  return (
    lasts(certificate, now) &&
    certificate.checkIssued(authority.certificate) &&
    certificate.verify(authority.certificate.publicKey) &&
    names.every(name => (isIP(name) === 0 ? has.has(name) : certificate.checkIP(name) !== undefined))
  );
}

/** `DNS:localhost, IP Address:127.0.0.1` as a list. Ours hold nothing that would be quoted. */
function namesOf(certificate: X509Certificate): string[] {
  return (certificate.subjectAltName ?? '').split(', ').map(name => name.slice(name.indexOf(':') + 1));
}

const text = ({ key, cert }: Pair) => ({ key, cert });

function read(pem: string, path: string): Pair {
  const pair = tryRead(pem);
  if (pair) return pair;
  throw new KilnError('StateUnwritable', `${path} does not hold a private key and its certificate.`, {
    target: path,
    hint: 'Restore the file, or remove it: clients have to trust a new authority then (`kiln env`).',
  });
}

/** undefined for a file that is damaged: a server's is made anew. */
function tryRead(pem: string): Pair | undefined {
  const at = pem.indexOf('-----BEGIN CERTIFICATE-----');
  if (at < 1) return undefined;
  const [key, cert] = [pem.slice(0, at), pem.slice(at)];
  try {
    const certificate = new X509Certificate(cert);
    return certificate.checkPrivateKey(createPrivateKey(key)) ? { key, cert, certificate } : undefined;
  } catch {
    return undefined;
  }
}

/** The library is loaded when something is made, which is rarely: it takes a good part of the time to start. */
async function library() {
  await import('reflect-metadata');
  return await import('@peculiar/x509');
}

async function newKeys() {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ type: 'pkcs8', format: 'pem' });
  return { keys, key: String(key) };
}

/** Positive, and random enough that an authority never gives one twice. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

async function makeAuthority(now: Date) {
  const x509 = await library();
  const { keys, key } = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    // Two state directories on one host have different authorities, and trust stores find them by name.
    name: `CN=Kiln ${randomBytes(4).toString('hex')}, O=Kiln`,
    notBefore: new Date(now.getTime() - BACKDATED),
    notAfter: new Date(now.getTime() + AUTHORITY_LIFE),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { key, cert: `${certificate.toString('pem')}\n` };
}

async function makeServer(authority: Pair, names: readonly string[], now: Date) {
  const x509 = await library();
  const { keys, key } = await newKeys();
  const der = createPrivateKey(authority.key).export({ type: 'pkcs8', format: 'der' });
  const signingKey = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
  const issuer = new x509.X509Certificate(authority.cert);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: 'CN=Kiln server, O=Kiln',
    issuer: issuer.subject,
    notBefore: new Date(now.getTime() - BACKDATED),
    notAfter: new Date(Math.min(now.getTime() + SERVER_LIFE, authority.certificate.validToDate.getTime())),
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map(value => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }) as const),
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return { key, cert: `${certificate.toString('pem')}\n` };
}
