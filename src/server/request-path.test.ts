import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePath, withPlainScope } from './request-path.ts';

test('a resource, however untidily it is written', () => {
  for (const path of [
    '/subscriptions/s/resourceGroups/g/providers/Microsoft.X/types/n',
    '/subscriptions/s/resourcegroups/g/providers/Microsoft.X//types/n/',
    '//subscriptions/s/RESOURCEGROUPS/g/Providers/Microsoft.X/types/n',
  ]) {
    const parsed = parsePath(path)!;
    assert.deepEqual(
      [parsed.subscription, parsed.resourceGroup, parsed.namespace, parsed.types, parsed.names],
      ['s', 'g', 'Microsoft.X', ['types'], ['n']],
    );
    assert.match(parsed.scope, /^\/subscriptions\/s\/resourcegroups\/g$/i);
  }
});

test('a collection and an action have one type more than names', () => {
  const { types, names } = parsePath('/subscriptions/s/resourceGroups/g/providers/M.X/a/n/Run')!;
  assert.deepEqual([types, names], [['a', 'Run'], ['n']]);
});

test('an extension has the whole resource as its scope', () => {
  const parsed = parsePath('/subscriptions/s/resourceGroups/g/providers/M.X/a/n/providers/M.Authorization/roles/1')!;
  assert.equal(parsed.scope, '/subscriptions/s/resourceGroups/g/providers/M.X/a/n');
  assert.deepEqual([parsed.namespace, parsed.types, parsed.names], ['M.Authorization', ['roles'], ['1']]);
});

test('what belongs to a subscription or a group itself', () => {
  assert.deepEqual(parsePath('/subscriptions/s/locations')!.rest, ['locations']);
  assert.deepEqual(parsePath('/subscriptions/s/providers/M.X')!.rest, ['providers', 'M.X']);
  assert.deepEqual(parsePath('/subscriptions/s/resourcegroups/g')!.rest, []);
  assert.deepEqual(parsePath('/subscriptions')!.rest, ['subscriptions']);
});

test('names are decoded once; what would leave its place is refused', () => {
  assert.deepEqual(parsePath('/subscriptions/s/resourceGroups/a%20b')!.resourceGroup, 'a b');
  for (const path of ['/', '/a/../b', '/a/%2e%2e/b', '/a/b%2Fc', '/a/%zz', '/a/%00', '/a/b%5Cc'])
    assert.equal(parsePath(path), undefined, path);
});

test('any text is read or refused', () => {
  fc.assert(
    fc.property(fc.string(), text => {
      parsePath(`/${text}`);
    }),
  );
});

test('a scope whose slashes are encoded is read as one whose are not', () => {
  const plain = '/subscriptions/S/resourceGroups/g%20h/providers/Microsoft.Authorization/locks/l?api-version=1&x=%2Fy';
  const tail = '/providers/Microsoft.Authorization/locks/l?api-version=1&x=%2Fy';
  assert.equal(withPlainScope(`/%2Fsubscriptions%2FS%2fresourceGroups%2Fg%20h${tail}`), `/${plain}`);
  assert.equal(withPlainScope(`/subscriptions%2FS%2FresourceGroups%2Fg%20h${tail}`), plain);
  for (const url of [
    plain,
    '/subscriptions/S/resourceGroups/a%2Fb',
    '/blobs/%2Fsubscriptions%2FS',
    '/?x=%2Fsubscriptions%2F',
  ])
    assert.equal(withPlainScope(url), url);
});
