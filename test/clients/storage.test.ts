/** Storage accounts with the unmodified Azure CLI and Microsoft's libraries for JavaScript: accounts, keys, containers and blobs by every way of proving who one is. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/processes/process.ts';
import { type Az, azOf } from './az.ts';
import { type Served, serve } from './served.ts';
import { LOCATION } from './templates.ts';

const GROUP = 'stores';
const ACCOUNT = 'kilnclients1';

describe('storage', () => {
  let served: Served;
  let az: Az;
  let connection: string;
  let endpoint: string;

  before(async () => {
    served = await serve();
    az = azOf(served);
    await az.json('group', 'create', '-n', GROUP, '-l', LOCATION);
  });
  after(async () => {
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  const account = ['-g', GROUP, '-n', ACCOUNT];

  test('az makes, shows, lists, changes accounts', async () => {
    assert.equal((await az.json('storage', 'account', 'check-name', '-n', ACCOUNT)).nameAvailable, true);
    const made = await az.json('storage', 'account', 'create', ...account, '-l', LOCATION, '--sku', 'Standard_LRS');
    assert.deepEqual([made.name, made.kind, made.sku.name], [ACCOUNT, 'StorageV2', 'Standard_LRS']);
    assert.equal(made.provisioningState, 'Succeeded');
    endpoint = made.primaryEndpoints.blob;
    assert.equal(endpoint, `${served.origin}/${ACCOUNT}/`);
    const taken = await az.json('storage', 'account', 'check-name', '-n', ACCOUNT);
    assert.deepEqual([taken.nameAvailable, taken.reason], [false, 'AlreadyExists']);
    assert.equal((await az.json('storage', 'account', 'show', ...account)).id, made.id);
    const listed: { name: string }[] = await az.json('storage', 'account', 'list', '-g', GROUP);
    assert.deepEqual(
      listed.map(({ name }) => name),
      [ACCOUNT],
    );
    const updated = await az.json('storage', 'account', 'update', ...account, '--tags', 'a=b', '--access-tier', 'Cool');
    assert.deepEqual([updated.tags, updated.accessTier], [{ a: 'b' }, 'Cool']);
    await az.fails(
      1,
      /AccountNameInvalid/,
      'storage',
      'account',
      'create',
      '-g',
      GROUP,
      '-n',
      'No_Name',
      '-l',
      LOCATION,
    );
    await az.fails(3, /ResourceNotFound/, 'storage', 'account', 'show', '-g', GROUP, '-n', 'absent1');
  });

  test('az lists keys and renews them', async () => {
    const keys: { keyName: string; value: string }[] = await az.json('storage', 'account', 'keys', 'list', ...account);
    assert.deepEqual(
      keys.map(({ keyName }) => keyName),
      ['key1', 'key2'],
    );
    const renewed: typeof keys = await az.json('storage', 'account', 'keys', 'renew', ...account, '--key', 'secondary');
    assert.equal(renewed[0]!.value, keys[0]!.value);
    assert.notEqual(renewed[1]!.value, keys[1]!.value);
    connection = `DefaultEndpointsProtocol=https;AccountName=${ACCOUNT};AccountKey=${keys[0]!.value};BlobEndpoint=${endpoint}`;
  });

  test('az keeps containers and blobs, with a connection string', async () => {
    const by = ['--connection-string', connection];
    assert.equal((await az.json('storage', 'container', 'create', '-n', 'box', ...by)).created, true);
    assert.equal((await az.json('storage', 'container', 'create', '-n', 'box', ...by)).created, false);
    const path = join(served.home, 'hello.txt');
    await writeFile(path, 'hello, blob\n');
    const name = ['-c', 'box', '-n', 'folder/hello ä.txt'];
    await az.json('storage', 'blob', 'upload', ...name, '-f', path, ...by);
    await az.fails(1, /BlobAlreadyExists/, 'storage', 'blob', 'upload', ...name, '-f', path, ...by);
    await az.json('storage', 'blob', 'upload', ...name, '-f', path, '--overwrite', ...by);
    const listed: { name: string }[] = await az.json('storage', 'blob', 'list', '-c', 'box', ...by);
    assert.deepEqual(
      listed.map(one => one.name),
      ['folder/hello ä.txt'],
    );
    const copy = join(served.home, 'copy.txt');
    await az.json('storage', 'blob', 'download', ...name, '-f', copy, ...by);
    assert.equal(await readFile(copy, 'utf8'), 'hello, blob\n');
    assert.equal((await az.json('storage', 'blob', 'show', ...name, ...by)).properties.contentLength, 12);
    assert.deepEqual(await az.json('storage', 'blob', 'exists', '-c', 'box', '-n', 'absent', ...by), { exists: false });
    const wrong = connection.replace(/AccountKey=[^;]{4}/, 'AccountKey=AAAA');
    await az.fails(1, /Authentication failure/, 'storage', 'container', 'list', '--connection-string', wrong);
  });

  test('az reads with its sign-in, and with signatures that it makes', async () => {
    const login = ['--auth-mode', 'login', '--blob-endpoint', endpoint];
    const listed: { name: string }[] = await az.json('storage', 'blob', 'list', '-c', 'box', ...login);
    assert.deepEqual(
      listed.map(one => one.name),
      ['folder/hello ä.txt'],
    );
    const expiry = new Date(Date.now() + 3_600_000).toISOString().replace(/:\d\d\.\d+Z$/, 'Z');
    const by = ['--connection-string', connection, '--expiry', expiry, '--https-only'];
    const blob = ['-c', 'box', '-n', 'folder/hello ä.txt'];
    const ofBlob: string = await az.json('storage', 'blob', 'generate-sas', ...blob, '--permissions', 'r', ...by);
    const copy = join(served.home, 'signed.txt');
    const signed = (sas: string) => ['--sas-token', sas, '--blob-endpoint', endpoint];
    await az.json('storage', 'blob', 'download', ...blob, '-f', copy, ...signed(ofBlob));
    assert.equal(await readFile(copy, 'utf8'), 'hello, blob\n');
    const ofBox: string = await az.json(
      'storage',
      'container',
      'generate-sas',
      '-n',
      'box',
      '--permissions',
      'l',
      ...by,
    );
    assert.equal((await az.json('storage', 'blob', 'list', '-c', 'box', ...signed(ofBox))).length, 1);
    await az.fails(1, /permission/i, 'storage', 'blob', 'delete', ...blob, ...signed(ofBox));
    const all = ['--services', 'b', '--resource-types', 'sco', '--permissions', 'rl'];
    const ofAccount: string = await az.json('storage', 'account', 'generate-sas', ...all, ...by);
    assert.equal((await az.json('storage', 'container', 'list', ...signed(ofAccount))).length, 1);
    const asUser: string = await az.json(
      ...['storage', 'blob', 'generate-sas', ...blob, '--permissions', 'r', '--expiry', expiry],
      ...['--as-user', '--account-name', ACCOUNT, ...login],
    );
    assert.match(asUser, /skoid=/);
    await az.json('storage', 'blob', 'download', ...blob, '-f', copy, ...signed(asUser));
  });

  test('az manages containers through Resource Manager', async () => {
    const of = ['--storage-account', ACCOUNT, '-g', GROUP];
    const made = await az.json('storage', 'container-rm', 'create', '-n', 'managed', ...of);
    assert.equal(made.name, 'managed');
    const listed: { name: string }[] = await az.json('storage', 'container-rm', 'list', ...of);
    assert.deepEqual(
      listed.map(({ name }) => name),
      ['box', 'managed'],
    );
    assert.equal((await az.json('storage', 'container-rm', 'show', '-n', 'managed', ...of)).publicAccess, 'None');
    assert.equal((await az.json('storage', 'container-rm', 'exists', '-n', 'absent', ...of)).exists, false);
    await az.json('storage', 'container-rm', 'delete', '-n', 'managed', '--yes', ...of);
    assert.equal((await az.json('storage', 'container-rm', 'exists', '-n', 'managed', ...of)).exists, false);
  });

  test('the libraries for JavaScript do all of it', async () => {
    const env = { ...served.env, KILN_ENDPOINT: served.origin, STORAGE_GROUP: GROUP };
    const script = fileURLToPath(new URL('storage-flow.ts', import.meta.url));
    const { stdout } = await run(process.execPath, [script], { env });
    assert.deepEqual(JSON.parse(stdout), {
      available: [true, false],
      kind: 'StorageV2',
      keys: ['key1', 'key2'],
      container: 'None',
      containers: ['made-by-arm'],
      uploaded: 9_000_000,
      range: 'abcdefghij',
      blobs: ['data.bin', 'folder/small.txt'],
      folders: ['folder/'],
      signed: 'small',
      token: 'small',
      accountSas: 'small',
      renewedIsOther: true,
      oldKey: 'AuthenticationFailed',
      deleted: 404,
    });
  });

  test('az deletes an account, and what lies in it', async () => {
    await az.json('storage', 'account', 'delete', ...account, '--yes');
    await az.fails(3, /ResourceNotFound/, 'storage', 'account', 'show', ...account);
    await az.fails(
      1,
      /Authentication failure/,
      'storage',
      'blob',
      'list',
      '-c',
      'box',
      '--connection-string',
      connection,
    );
    await az.json('storage', 'account', 'create', ...account, '-l', LOCATION);
    assert.deepEqual(await az.json('storage', 'container-rm', 'list', '--storage-account', ACCOUNT, '-g', GROUP), []);
  });
});
