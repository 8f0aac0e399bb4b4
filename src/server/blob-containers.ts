/** Containers over HTTP. */
import { createContainer, deleteContainer, requireContainer, setContainer } from '../blobs/containers.ts';
import type { AccessPolicy } from '../database/schema.ts';
import { STAGED_CONTAINERS, stagedBlobs } from '../providers/image-builder/staged-blobs.ts';
import { allowsPublicAccess } from '../providers/storage/find-account.ts';
import { BlobError } from './blob-errors.ts';
import { changed, containerHeaders, metadataHeaders } from './blob-headers.ts';
import { blobSource, listBlobs, listQuery, listXml } from './blob-list.ts';
import {
  addressOf,
  type BlobAnswer,
  type BlobRequest,
  conditionsOf,
  header,
  invalidHeader,
  metadataOf,
  textBody,
} from './blob-request.ts';
import { endpointOf } from './blob-service.ts';
import { child, childText, type Element, readXml } from './blob-xml.ts';
import { type BlobAction, requireAllowed } from './storage-auth.ts';
import { publicAccessNotPermitted } from './storage-auth-errors.ts';
import { xml } from './xml.ts';

const allow = (request: BlobRequest, action: BlobAction): Promise<void> =>
  requireAllowed(request.grant, action, { level: 'container', container: request.container! });

export async function create(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'create');
  const metadata = metadataOf(request);
  const publicAccess = publicAccessOf(request);
  const made = await createContainer(request.store.database, addressOf(request), { metadata, publicAccess });
  return { status: 201, headers: changed(made) };
}

/** Errors: InvalidHeaderValue, PublicAccessNotPermitted. */
function publicAccessOf(request: BlobRequest): 'blob' | 'container' | null {
  const given = header(request, 'x-ms-blob-public-access')?.toLowerCase();
  if (given === undefined) return null;
  if (given !== 'blob' && given !== 'container') throw invalidHeader('x-ms-blob-public-access');
  if (!allowsPublicAccess(request.owner)) throw publicAccessNotPermitted();
  return given;
}

export async function remove(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'delete');
  if (request.owner.template && STAGED_CONTAINERS.includes(request.container!))
    throw new BlobError(
      409,
      'ContainerProtectedFromDeletion',
      'The container holds what runs of an image template left, and goes with the template.',
    );
  await deleteContainer(request.store.database, addressOf(request), conditionsOf(request));
  request.store.collect();
  return { status: 202 };
}

export async function properties(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  const container = await requireContainer(request.store.database, addressOf(request));
  return { status: 200, headers: containerHeaders(container) };
}

export async function metadata(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  const container = await requireContainer(request.store.database, addressOf(request));
  return { status: 200, headers: { ...changed(container), ...metadataHeaders(container.metadata) } };
}

export async function setMetadata(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'write');
  const set = { metadata: metadataOf(request) };
  const container = await setContainer(request.store.database, addressOf(request), set, conditionsOf(request));
  return { status: 200, headers: changed(container) };
}

export async function list(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'list');
  const query = listQuery(request.query);
  const container = await requireContainer(request.store.database, addressOf(request));
  const staged = (from: string) => stagedBlobs(request.environment, request.owner, container.name, { from });
  const page = await listBlobs(blobSource(request.store, container, staged, query), query);
  return { status: 200, xml: listXml(page, query, endpointOf(request), container.name) };
}

export async function accessPolicies(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'getAcl');
  const container = await requireContainer(request.store.database, addressOf(request));
  const items = container.policies.map(({ id, start, expiry, permission }) => {
    const part = (name: string, value: string | undefined) =>
      value === undefined ? '' : `<${name}>${xml`${value}`}</${name}>`;
    const policy = `${part('Start', start)}${part('Expiry', expiry)}${part('Permission', permission)}`;
    return `<SignedIdentifier>${xml`<Id>${id}</Id>`}<AccessPolicy>${policy}</AccessPolicy></SignedIdentifier>`;
  });
  return {
    status: 200,
    headers: { ...changed(container), 'x-ms-blob-public-access': container.public_access ?? undefined },
    xml: `<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>${items.join('')}</SignedIdentifiers>`,
  };
}

export async function setAccessPolicies(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'setAcl');
  const publicAccess = publicAccessOf(request);
  const text = await textBody(request, 64 * 1024);
  const policies = text.trim() === '' ? [] : policiesOf(readXml(text));
  const set = { policies, publicAccess };
  const container = await setContainer(request.store.database, addressOf(request), set, conditionsOf(request));
  return { status: 200, headers: changed(container) };
}

const MOST_POLICIES = 5;

/** Errors: InvalidXmlDocument. */
function policiesOf(root: Element): AccessPolicy[] {
  const invalid = (message: string) => new BlobError(400, 'InvalidXmlDocument', message);
  const found = root.children.filter(({ name }) => name === 'SignedIdentifier');
  if (root.name !== 'SignedIdentifiers' || found.length > MOST_POLICIES)
    throw invalid('XML specified is not syntactically valid: at most 5 signed identifiers.');
  return found.map(element => {
    const id = childText(element, 'Id') ?? '';
    const policy = child(element, 'AccessPolicy');
    const [start, expiry, permission] = ['Start', 'Expiry', 'Permission'].map(
      name => (policy && childText(policy, name)) || undefined,
    );
    if (id === '' || id.length > 64) throw invalid('The id of a signed identifier has 1 to 64 characters.');
    for (const time of [start, expiry])
      if (time !== undefined && Number.isNaN(Date.parse(time))) throw invalid(`${time} is no time in ISO 8601.`);
    return {
      id,
      ...(start !== undefined && { start }),
      ...(expiry !== undefined && { expiry }),
      ...(permission !== undefined && { permission }),
    };
  });
}
