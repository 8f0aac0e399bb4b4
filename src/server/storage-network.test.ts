import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StorageAccount } from '../providers/storage/find-account.ts';
import { pathStyle } from './account-hosts.ts';
import { requireReachable } from './storage-network.ts';

const account = (properties: object) => ({ resource: { properties } }) as StorageAccount;
const reaches = (properties: object, address = '10.1.2.3', tls: string | undefined = 'TLSv1.3'): string => {
  try {
    requireReachable(account(properties), address, tls);
    return 'reached';
  } catch (error) {
    return (error as { code: string }).code;
  }
};
const only = (...values: string[]) => ({
  networkAcls: { defaultAction: 'Deny', ipRules: values.map(value => ({ value })) },
});

test('an account is reached from where its rules say', () => {
  assert.equal(reaches({}), 'reached');
  assert.equal(reaches({ networkAcls: { defaultAction: 'Allow', ipRules: [{ value: '1.2.3.4' }] } }), 'reached');
  assert.equal(reaches({ publicNetworkAccess: 'Disabled' }), 'AuthorizationFailure');
  assert.equal(reaches(only()), 'AuthorizationFailure');
  assert.equal(reaches(only('10.1.2.3')), 'reached');
  assert.equal(reaches(only('10.1.2.4', '10.1.0.0/16')), 'reached');
  assert.equal(reaches(only('10.1.2.3'), '::ffff:10.1.2.3'), 'reached');
  assert.equal(reaches(only('10.1.2.0/31')), 'AuthorizationFailure');
  assert.equal(reaches(only('10.1.2.3'), '::1'), 'AuthorizationFailure');
  assert.equal(reaches(only('nonsense', '10.0.0.0/99')), 'AuthorizationFailure');
});

test('with the least version of TLS that it wants', () => {
  assert.equal(reaches({ minimumTlsVersion: 'TLS1_3' }), 'reached');
  assert.equal(reaches({ minimumTlsVersion: 'TLS1_3' }, '10.1.2.3', 'TLSv1.2'), 'TlsVersionNotPermitted');
  for (const minimumTlsVersion of ['TLS1_0', 'TLS1_1', 'TLS1_2'])
    assert.equal(reaches({ minimumTlsVersion }, '10.1.2.3', 'TLSv1.2'), 'reached');
});

test('the name of an account in the host is the first segment of the path', () => {
  const origin = 'https://kiln.example.org:8443';
  const styled = (host: string | undefined, url: string) => pathStyle({ url, headers: { host } }, origin);
  assert.equal(styled('acct.blob.localhost:8443', '/box/b?comp=x'), '/acct/box/b?comp=x');
  assert.equal(styled('acct.blob.core.localhost:8443', '/box/b?comp=x'), '/acct/box/b?comp=x');
  assert.equal(styled('ACCT.Blob.kiln.example.org', '/'), '/acct/');
  assert.equal(styled('acct.blob.localhost', 'https://acct.blob.localhost/box'), '/acct/box');
  assert.equal(styled('acct.blob.localhost', '?comp=list'), '/acct/?comp=list');
  for (const host of [
    'localhost:8443',
    '127.0.0.1',
    'acct.queue.localhost',
    'a.blob.localhost',
    'blob.localhost',
    'subscriptions.blob.localhost',
    'Providers.blob.localhost',
    undefined,
  ])
    assert.equal(styled(host, '/box/b'), '/box/b');
  // A server that is called so itself.
  assert.equal(
    pathStyle({ url: '/x', headers: { host: 'kiln.blob.example.org' } }, 'https://kiln.blob.example.org'),
    '/x',
  );
});
