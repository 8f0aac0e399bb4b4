import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { resourceId } from '../../arm/ids.ts';
import { parseSharedImageId } from './shared-image-id.ts';
import { versionSource } from './version-source.ts';

const S = '00000000-0000-4000-8000-000000000001';
const image = resourceId(S, 'g', 'Microsoft.Compute/images', 'i');
const version = resourceId(S, 'g', 'Microsoft.Compute/galleries/images/versions', 'g', 'd', '1.0.0');
const account = resourceId(S, 'g', 'Microsoft.Storage/storageAccounts', 'account');
const uri = 'https://account.blob.localhost/vhds/a.vhd';
const AT = 'properties.storageProfile';

test('each kind of source is told by its id', () => {
  const kind = (source: object) => versionSource({ source }).source?.kind;
  assert.equal(kind({ id: image }), 'image');
  assert.equal(kind({ id: version.toLowerCase() }), 'version');
  assert.equal(kind({ id: '/SharedGalleries/u/Images/d/Versions/1.0.0' }), 'shared');
  assert.equal(kind({ communityGalleryImageId: '/CommunityGalleries/n/Images/d/Versions/1.0.0' }), 'shared');
  assert.equal(kind({ virtualMachineId: resourceId(S, 'g', 'Microsoft.Compute/virtualMachines', 'v') }), 'absent');
  assert.equal(kind({ id: account }), undefined);
  assert.match(versionSource({ source: { id: account } }).violations[0]!.message, /^The source id: .* must either be/);
  assert.deepEqual(versionSource({}), { violations: [] });
});

test('a VHD names its blob and its account, which older clients call id', () => {
  for (const field of ['id', 'storageAccountId'])
    assert.deepEqual(versionSource({ osDiskImage: { source: { uri, [field]: account } } }), {
      source: { kind: 'vhd', uri, accountId: account, path: `${AT}.osDiskImage.source.uri` },
      violations: [],
    });
  const violation = (source: object) => versionSource({ osDiskImage: { source } }).violations[0]!;
  assert.equal(violation({ uri }).path, `${AT}.osDiskImage.source.storageAccountId`);
  assert.equal(violation({ storageAccountId: account }).path, `${AT}.osDiskImage.source.uri`);
  assert.equal(violation({ uri, id: image }).path, `${AT}.osDiskImage.source.id`);
});

test('one source, no more; data disks have none of their own', () => {
  const messages = (profile: object) => versionSource(profile).violations.map(({ message }) => message.slice(0, 55));
  const one = 'The gallery artifact version source can only be specifie';
  assert.deepEqual(messages({ source: { id: image, virtualMachineId: image } }), [one.slice(0, 55)]);
  assert.deepEqual(messages({ source: { id: image }, osDiskImage: { source: { uri, id: account } } }), [
    one.slice(0, 55),
  ]);
  assert.deepEqual(messages({ dataDiskImages: [{ lun: 0, source: { id: image } }] }), [one.slice(0, 55)]);
  assert.equal(versionSource({ source: { id: image }, dataDiskImages: [{ lun: 0 }] }).source?.kind, 'image');
});

test('ids of shared images are read in any case, and other text is none', () => {
  const word = fc.stringMatching(/^[A-Za-z0-9_.-]{1,20}$/);
  const letters = fc.infiniteStream(fc.boolean());
  fc.assert(
    fc.property(word, word, fc.constantFrom('Shared', 'Community'), letters, (gallery, name, kind, upper) => {
      const any = (text: string) =>
        [...text].map(one => (upper.next().value ? one.toUpperCase() : one.toLowerCase())).join('');
      const tail = `/${any(`${kind}Galleries`)}/${gallery}/${any('Images')}/${name}/${any('Versions')}/1.2.3`;
      const expected = { kind: kind.toLowerCase(), gallery, image: name, version: '1.2.3' };
      const located = any(`/subscriptions/${S}/providers/Microsoft.Compute/locations/eastus`);
      for (const text of [tail, `${tail}/`, `${located}${tail}`]) assert.deepEqual(parseSharedImageId(text), expected);
    }),
  );
  fc.assert(fc.property(fc.string(), text => assert.equal(parseSharedImageId(text), undefined)));
  assert.equal(parseSharedImageId(version), undefined);
});
