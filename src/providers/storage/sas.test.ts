/** Signatures that @azure/storage-blob makes, judged by what is signed here. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AccountSASPermissions,
  BlobSASPermissions,
  ContainerSASPermissions,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
  SASProtocol,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import fc from 'fast-check';
import { type AccountKey, delegationKey } from './account-keys.ts';
import { splitTarget } from './request-parts.ts';
import { delegationOf, readSas, type SasResource, sasAddressAllowed, sasStringToSign, sasTime } from './sas.ts';
import { sign } from './shared-key.ts';

const ACCOUNT = 'kilnaccount1';
const KEY = Buffer.alloc(64, 7);
const credential = new StorageSharedKeyCredential(ACCOUNT, KEY.toString('base64'));
const TIMES = { startsOn: new Date('2030-01-01T00:00:00Z'), expiresOn: new Date('2030-01-02T03:04:05Z') };
const COMMON = { ...TIMES, protocol: SASProtocol.Https, ipRange: { start: '10.0.0.1', end: '10.0.0.9' } };
const OVERRIDES = {
  ...{ cacheControl: 'no-store', contentDisposition: 'attachment; filename="ä b"', contentEncoding: 'gzip' },
  ...{ contentLanguage: 'de', contentType: 'text/html; charset=utf-8' },
};
const BOX: SasResource = { account: ACCOUNT, container: 'box' };
const BLOB: SasResource = { ...BOX, blob: 'folder/ä b+%.txt' };
const VERSIONS = ['2015-04-05', '2018-03-28', '2018-11-09', '2020-02-10', '2020-12-06', '2021-12-02', '2024-11-04'];

const read = (query: string) => readSas(splitTarget(`/?${query}`).query);

/** Whether the signature in a query is the key's. */
function isSigned(query: string, on: SasResource, key: Uint8Array = KEY): boolean {
  const found = read(query);
  if (!found || 'broken' in found) return false;
  return sign(key, sasStringToSign(found.kind, found.parameters, on)) === found.parameters.sig;
}

/** One character of one value is another one. */
const changed = (query: string) =>
  fc.tuple(fc.nat(), fc.nat(), fc.stringMatching(/^[A-Za-z0-9]$/)).map(([part, at, character]) => {
    const parts = query.split('&').map(one => one.split('=') as [string, string]);
    const [name, value] = parts[part % parts.length]!;
    const text = decodeURIComponent(value);
    const index = at % text.length;
    const other = `${text.slice(0, index)}${character}${text.slice(index + 1)}`;
    parts[part % parts.length] = [name, encodeURIComponent(other)];
    return { name, same: other === text, query: parts.map(one => one.join('=')).join('&') };
  });

function refusesChanges(query: string, on: SasResource, key: Uint8Array = KEY): void {
  assert.ok(isSigned(query, on, key), query);
  fc.assert(
    fc.property(changed(query), ({ same, name, query: other }) => assert.equal(isSigned(other, on, key), same, name)),
    { numRuns: 200 },
  );
  assert.ok(!isSigned(query, on, Buffer.alloc(64, 8)));
}

describe('signatures', () => {
  for (const version of VERSIONS) {
    it(`are the SDK's for accounts (${version})`, () => {
      const permissions = AccountSASPermissions.parse('rwdlac');
      const values = { ...COMMON, version, permissions, services: 'bq', resourceTypes: 'sco' };
      const scope = version >= '2020-12-06' ? { encryptionScope: 'scope1' } : {};
      const query = generateAccountSASQueryParameters({ ...values, ...scope }, credential).toString();
      refusesChanges(query, { account: ACCOUNT });
      assert.equal(isSigned(query, { account: 'another' }), false);
    });

    it(`are the SDK's for containers and blobs (${version})`, () => {
      const values = { ...COMMON, ...OVERRIDES, version, containerName: 'box' };
      const ofBox = generateBlobSASQueryParameters(
        { ...values, permissions: ContainerSASPermissions.parse('rl') },
        credential,
      ).toString();
      refusesChanges(ofBox, BOX);
      assert.ok(isSigned(ofBox, BLOB), 'a container’s is the same for all that is in it');
      assert.ok(!isSigned(ofBox, { ...BOX, container: 'other' }));
      const ofBlob = generateBlobSASQueryParameters(
        { ...values, blobName: BLOB.blob!, permissions: BlobSASPermissions.parse('r') },
        credential,
      ).toString();
      refusesChanges(ofBlob, BLOB);
      assert.ok(!isSigned(ofBlob, { ...BLOB, blob: 'folder' }));
    });
  }

  it('are the SDK’s for a policy, a snapshot, and the least that there is', () => {
    const policy = { containerName: 'box', identifier: 'mine', version: '2021-12-02' };
    assert.ok(isSigned(generateBlobSASQueryParameters(policy, credential).toString(), BOX));
    const time = '2030-01-01T00:00:00.0000000Z';
    const ofSnapshot = generateBlobSASQueryParameters(
      { ...policy, blobName: 'b', snapshotTime: time },
      credential,
    ).toString();
    assert.ok(isSigned(ofSnapshot, { ...BOX, blob: 'b', time }));
    assert.ok(!isSigned(ofSnapshot, { ...BOX, blob: 'b' }));
  });

  for (const version of ['2018-11-09', '2020-02-10', '2020-12-06', '2025-07-05', '2026-04-06'])
    it(`are the SDK's for users (${version})`, () => {
      const delegated = {
        ...{ signedObjectId: 'a2f9e5b0-0000-4000-8000-000000000001' },
        ...{ signedTenantId: 'a2f9e5b0-0000-4000-8000-000000000002' },
        ...{ signedStartsOn: TIMES.startsOn, signedExpiresOn: TIMES.expiresOn, signedService: 'b' },
        signedVersion: version,
      };
      const hidden: AccountKey = { name: 'delegation', value: Buffer.alloc(64, 9), created: new Date(0) };
      const said = {
        ...{ objectId: delegated.signedObjectId, tenantId: delegated.signedTenantId, service: 'b', version },
        ...{ start: '2030-01-01T00:00:00Z', expiry: '2030-01-02T03:04:05Z' },
      };
      const key = delegationKey([hidden], said)!;
      const query = generateBlobSASQueryParameters(
        {
          ...{ ...COMMON, ...OVERRIDES, version, containerName: 'box', blobName: BLOB.blob! },
          permissions: BlobSASPermissions.parse('r'),
        },
        { ...delegated, value: key.toString('base64') },
        ACCOUNT,
      ).toString();
      const found = read(query);
      assert.ok(found && !('broken' in found) && found.kind === 'delegation');
      assert.deepEqual(delegationOf(found.parameters), said);
      refusesChanges(query, BLOB, key);
    });

  it('that cannot be judged say why', () => {
    assert.equal(read('comp=list'), undefined);
    const broken = (query: string) => {
      const found = read(query);
      return found && 'broken' in found ? found.broken : undefined;
    };
    assert.match(broken('sig=x')!, /^sv is mandatory/);
    assert.match(broken('sig=x&sv=2012-02-12&sr=c')!, /older than/);
    assert.match(broken('sig=x&sv=2021-12-02')!, /^sr is mandatory/);
    assert.match(broken('sig=x&sv=2021-12-02&sr=d')!, /^sr is invalid/);
    assert.match(broken('sig=x&sv=2021-12-02&ss=b&sr=c')!, /not both/);
    assert.match(broken('sig=x&sv=2021-12-02&sr=c&sp=r&sp=w')!, /sp is given twice/);
  });

  it('read times and addresses strictly', () => {
    assert.equal(sasTime('2030-01-31')?.toISOString(), '2030-01-31T00:00:00.000Z');
    assert.equal(sasTime('2030-01-31T10:00Z')?.toISOString(), '2030-01-31T10:00:00.000Z');
    assert.equal(sasTime('2030-01-31T10:00:01.1234567Z')?.toISOString(), '2030-01-31T10:00:01.123Z');
    for (const bad of ['', 'soon', '2030-13-01', '2030-01-31T10:00:00', '2030-01-31T10:00:00+01:00'])
      assert.equal(sasTime(bad), undefined, bad);
    assert.ok(sasAddressAllowed('10.0.0.1', '::ffff:10.0.0.1'));
    assert.ok(sasAddressAllowed('10.0.0.1-10.0.1.0', '10.0.0.255'));
    assert.ok(!sasAddressAllowed('10.0.0.1-10.0.1.0', '10.0.1.1'));
    assert.ok(!sasAddressAllowed('10.0.0.1', '::1'));
    assert.ok(!sasAddressAllowed('10.0.0', '10.0.0.0'));
  });
});
