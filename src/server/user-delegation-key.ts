/**
 * Get User Delegation Key: somebody who signed in gets a key to sign with in their own name, for at most a week. What they sign grants never more than they may do
 * themselves when it is used (storage-auth-sas.ts).
 */
import { delegationKey, requireKeys } from '../providers/storage/account-keys.ts';
import { sasTime } from '../providers/storage/sas.ts';
import { BlobError } from './blob-errors.ts';
import { type BlobAnswer, type BlobRequest, header, textBody } from './blob-request.ts';
import { childText, readXml } from './blob-xml.ts';
import { permissionMismatch } from './storage-auth-errors.ts';
import { xml } from './xml.ts';

const ACTION = 'Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action';
const WEEK_MS = 7 * 24 * 60 * 60 * 1000;

/** Errors: AuthorizationPermissionMismatch, InvalidXmlDocument, OutOfRangeInput. */
export async function userDelegationKey(request: BlobRequest): Promise<BlobAnswer> {
  const { caller } = request.raw;
  const { owner, options, environment } = request;
  // A key or a signature is nobody in whose name one could sign.
  if (!caller || !(await options.roles.may(caller, ACTION, owner.id.toLowerCase()))) throw permissionMismatch();
  const root = readXml(await textBody(request, 4096));
  const now = options.now?.() ?? new Date();
  const [start, expiry] = [sasTime(childText(root, 'Start') ?? '') ?? now, sasTime(childText(root, 'Expiry') ?? '')];
  if (root.name !== 'KeyInfo' || !expiry)
    throw new BlobError(400, 'InvalidXmlDocument', 'XML specified is not syntactically valid: KeyInfo with Expiry.');
  if (expiry <= now || expiry <= start || expiry.getTime() > now.getTime() + WEEK_MS)
    throw new BlobError(
      400,
      'OutOfRangeInput',
      'One of the request inputs is out of range: a user delegation key is valid for at most seven days.',
    );
  const delegation = {
    objectId: caller.objectId,
    tenantId: caller.tenantId,
    start: toSeconds(start),
    expiry: toSeconds(expiry),
    service: 'b',
    version: header(request, 'x-ms-version') ?? '2021-12-02',
  };
  const keys = await requireKeys(environment.database, environment.home, owner.resource, ['delegation']);
  const value = delegationKey(keys, delegation)!.toString('base64');
  const { objectId, tenantId, service, version } = delegation;
  const times = xml`<SignedStart>${delegation.start}</SignedStart><SignedExpiry>${delegation.expiry}</SignedExpiry>`;
  return {
    status: 200,
    xml: `<?xml version="1.0" encoding="utf-8"?><UserDelegationKey>${xml`<SignedOid>${objectId}</SignedOid><SignedTid>${tenantId}</SignedTid>`}${times}${xml`<SignedService>${service}</SignedService><SignedVersion>${version}</SignedVersion><Value>${value}</Value>`}</UserDelegationKey>`,
  };
}

/** As SDKs write them into what they sign. */
const toSeconds = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;
