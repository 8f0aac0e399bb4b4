/** Uploads to a small blob service that breaks connections, loses answers and refuses. The server's own accounts are in test/wire, Azurite in test/clients. */
import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { type BlobEndpoint, blobEndpoint, SIGNATURE } from '../../../test/wire/blob-endpoint.ts';
import { asKilnError, type KilnError } from '../../arm/errors.ts';
import { passOverFile } from '../../disks/pass.ts';
import { run } from '../../processes/process.ts';
import { openRemoteBlob, type RemoteOptions } from './remote-blob.ts';
import { CHECKSUM_METADATA, type UploadOptions, uploadVhd } from './upload-vhd.ts';

const MIB = 1024 * 1024;
let endpoint: BlobEndpoint;
let directory: string;
/** 24 MiB, of which three places have data. */
let vhd: { readonly path: string; readonly fsverity: string; readonly bytes: Buffer };

before(async () => {
  endpoint = await blobEndpoint();
  directory = await mkdtemp(join(tmpdir(), 'kiln-upload-'));
  vhd = await makeVhd('disk', 'content');
});
after(async () => {
  await endpoint?.close();
  await rm(directory, { recursive: true, force: true });
});
afterEach(() => {
  endpoint.trouble = () => undefined;
  endpoint.seen.length = 0;
});

async function makeVhd(name: string, text: string) {
  const path = join(directory, `${name}.vhd`);
  await run('qemu-img', ['create', '-q', '-f', 'vpc', '-o', 'subformat=fixed,force_size=on', path, String(24 * MIB)]);
  const handle = await open(path, 'r+');
  await handle.write(Buffer.alloc(5 * MIB, text), 0, 5 * MIB, 0);
  await handle.write(Buffer.from(text), 0, text.length, 12 * MIB);
  await handle.write(Buffer.alloc(64 * 1024, text), 0, 64 * 1024, 24 * MIB - 64 * 1024);
  await handle.close();
  const bytes = await readFile(path);
  return { path, fsverity: (await passOverFile(path)).fsverity, bytes };
}

async function upload(
  uri: string,
  more: Partial<UploadOptions> & Partial<RemoteOptions> & { readonly file?: typeof vhd } = {},
) {
  const { metadata = {}, signal = AbortSignal.timeout(60_000), onProgress, file = vhd, ...remote } = more;
  const said: string[] = [];
  await using blob = openRemoteBlob(uri, { allowLocal: true, pause: 1, idleTimeout: 5_000, signal, ...remote });
  const report = (line: string) => void said.push(line);
  const uploaded = await uploadVhd(file, blob, { metadata, signal, report, ...(onProgress && { onProgress }) });
  return { ...uploaded, said };
}

const puts = () => endpoint.seen.filter(what => what.startsWith('PUT page'));
const failure = async (going: Promise<unknown>): Promise<KilnError> => {
  const error = asKilnError(
    await going.then(
      () => assert.fail('it went well'),
      thrown => thrown,
    ),
  );
  assert.ok(!`${error.message} ${error.hint} ${error.target}`.includes(encodeURIComponent(SIGNATURE)), error.message);
  assert.ok(!`${error.message} ${error.hint} ${error.target}`.includes(SIGNATURE), error.message);
  return error;
};

test('only data is sent, the footer last, and the blob is the file', async () => {
  const progress: number[] = [];
  const { sent, data, linked } = await upload(endpoint.uri('plain.vhd'), {
    metadata: { team: 'images' },
    onProgress: ({ done, total }) => void progress.push(done / total!),
  });
  const blob = endpoint.blobs.get('plain.vhd')!;
  assert.ok(blob.content.equals(vhd.bytes));
  assert.deepEqual(blob.metadata, { team: 'images', [CHECKSUM_METADATA]: vhd.fsverity });
  assert.equal(linked, false);
  assert.equal(sent, data);
  assert.ok(sent < 6 * MIB, `${sent} bytes were sent of 24 MiB with 5 MiB of data`);
  assert.equal(puts().at(-1), `PUT page bytes=${24 * MIB}-${24 * MIB + 511}`);
  assert.equal(progress.at(-1), 1);
});

test('broken connections, lost answers and a busy service cost nothing but another attempt', async () => {
  const met = new Set<string>();
  const troubles = [
    { breakAfter: 100_000 },
    { forgetAnswer: true },
    { status: 503, code: 'ServerBusy' },
    { breakAfter: 1 },
  ];
  endpoint.trouble = what => {
    if (met.has(what)) return undefined;
    met.add(what);
    return troubles[met.size % troubles.length];
  };
  await upload(endpoint.uri('broken.vhd'));
  assert.ok(endpoint.blobs.get('broken.vhd')!.content.equals(vhd.bytes));
  assert.ok(met.size >= 8, [...met].join());
});

test('bytes that were spoilt on the way are sent again', async () => {
  let first = true;
  endpoint.trouble = what => {
    if (!first || !what.startsWith('PUT page')) return undefined;
    first = false;
    return { status: 400, code: 'Md5Mismatch' };
  };
  await upload(endpoint.uri('spoilt.vhd'));
  assert.ok(endpoint.blobs.get('spoilt.vhd')!.content.equals(vhd.bytes));
});

test('an upload that ended half-way goes on with what is there', async () => {
  endpoint.trouble = what =>
    what.startsWith(`PUT page bytes=${12 * MIB}-`) ? { status: 403, code: 'AuthorizationFailure' } : undefined;
  const error = await failure(upload(endpoint.uri('half.vhd')));
  assert.equal(error.code, 'UploadFailed');
  assert.match(
    error.message,
    /^http:\/\/127\.0\.0\.1:\d+\/acct\/box\/half\.vhd: writing pages was refused: the server answered 403 AuthorizationFailure\.$/,
  );
  const there = endpoint.blobs.get('half.vhd')!.pages.size * 512;
  assert.ok(!endpoint.blobs.get('half.vhd')!.pages.has(24 * MIB), 'a half blob has no footer');
  endpoint.trouble = () => undefined;
  endpoint.seen.length = 0;
  const again = await upload(endpoint.uri('half.vhd'));
  assert.ok(again.sent <= again.data - there + 512, `${again.sent} of ${again.data} were sent, ${there} were there`);
  assert.ok(!endpoint.seen.includes('PUT blob'), 'it was not made anew');
  assert.ok(endpoint.blobs.get('half.vhd')!.content.equals(vhd.bytes));
  assert.match(again.said.join('\n'), /goes on after \d+ bytes/);
});

test('what is complete is not sent again', async () => {
  await upload(endpoint.uri('twice.vhd'));
  endpoint.seen.length = 0;
  const { sent } = await upload(endpoint.uri('twice.vhd'), { metadata: { run: 'second' } });
  assert.equal(sent, 0);
  assert.deepEqual(puts(), []);
  assert.equal(endpoint.blobs.get('twice.vhd')!.metadata.run, 'second');
});

test('a blob of another file is replaced, whatever it has', async () => {
  const other = await makeVhd('other', 'something else');
  await upload(endpoint.uri('replaced.vhd'), { file: other });
  const { said } = await upload(endpoint.uri('replaced.vhd'));
  assert.ok(endpoint.blobs.get('replaced.vhd')!.content.equals(vhd.bytes));
  assert.match(said.join('\n'), /other content, and is replaced/);
});

test('a blob that says it is this file, but that somebody wrote to, is begun anew', async () => {
  await upload(endpoint.uri('foreign.vhd'));
  const blob = endpoint.blobs.get('foreign.vhd')!;
  blob.content.write('not yours', 20 * MIB);
  blob.pages.add(20 * MIB);
  await upload(endpoint.uri('foreign.vhd'));
  assert.ok(endpoint.blobs.get('foreign.vhd')!.content.equals(vhd.bytes));
});

test('pages that got lost, and a footer that is another one, are seen at the end', async () => {
  const spoil = (what: string, change: () => void) => {
    endpoint.trouble = seen => {
      if (seen.startsWith(what)) change();
      return undefined;
    };
  };
  spoil('GET pagelist', () => endpoint.blobs.get('lost.vhd')!.pages.delete(4096));
  const lost = await failure(upload(endpoint.uri('lost.vhd')));
  assert.match(lost.message, /is not what was uploaded: 512 bytes are missing, from 4096 on\.$/);
  spoil('GET pagelist', () => void endpoint.blobs.get('added.vhd')!.pages.add(20 * MIB));
  const added = await failure(upload(endpoint.uri('added.vhd')));
  assert.match(added.message, /somebody else wrote 512 bytes, from 20971520 on\.$/);
  spoil('GET blob', () => void endpoint.blobs.get('footer.vhd')!.content.write('x', 24 * MIB));
  const footer = await failure(upload(endpoint.uri('footer.vhd')));
  assert.match(footer.message, /its footer is another one\.$/);
});

test('a signature that lets nobody read is enough to write, and that is said', async () => {
  const { said } = await upload(endpoint.uri('blind.vhd', 'cw'));
  assert.ok(endpoint.blobs.get('blind.vhd')!.content.equals(vhd.bytes));
  assert.match(said.join('\n'), /the signature lets nobody read, so the blob as a whole is not verified/);
});

test('refusals name host, status, code and what to do, and nothing that is secret', async () => {
  const uri = endpoint.uri('refused.vhd');
  const wrong = await failure(upload(uri.replace(/sig=.*/, `sig=${encodeURIComponent('AAAA')}`)));
  assert.match(
    wrong.message,
    /refused\.vhd: making the blob was refused: the server answered 403 AuthenticationFailed\.$/,
  );
  assert.match(wrong.hint!, /sp=cw/);
  const nowhere = await failure(upload(uri.replace('/box/', '/absent/')));
  assert.match(nowhere.message, /404 ContainerNotFound\.$/);
  assert.match(nowhere.hint!, /Make the container first/);
  endpoint.trouble = what => (what === 'PUT blob' ? { status: 409, code: 'Not A Code <script>' } : undefined);
  assert.match((await failure(upload(uri))).message, /the server answered 409\.$/);
  const expired = await failure(upload(uri.replace('2999', '2001')));
  assert.match(expired.message, /its signature expired at 2001-01-01T00:00:00\.000Z\.$/);
  const unsigned = await failure(upload(uri.split('?')[0]!));
  assert.match(unsigned.message, /its uri has no signature\.$/);
});

test('a service that stays in trouble is given up, with the reason', async () => {
  endpoint.trouble = () => ({ status: 500, code: 'InternalError' });
  const busy = await failure(upload(endpoint.uri('never.vhd'), { attempts: 3 }));
  assert.match(
    busy.message,
    /looking for the blob failed 3 times, at last because the server answered 500 InternalError\.$/,
  );
  assert.equal(endpoint.seen.length, 3);
});

test('a probe changes nothing, and is refused as the upload would be', async () => {
  const probe = async (uri: string) => {
    await using blob = openRemoteBlob(uri, { allowLocal: true, pause: 1, signal: AbortSignal.timeout(30_000) });
    await blob.probe();
  };
  await probe(endpoint.uri('probed.vhd'));
  assert.ok(!endpoint.blobs.has('probed.vhd'));
  assert.match((await failure(probe(endpoint.uri('probed.vhd', 'r')))).message, /403 AuthorizationPermissionMismatch/);
  endpoint.trouble = () => ({ status: 412, code: 'LeaseIdMissing' });
  assert.match((await failure(probe(endpoint.uri('probed.vhd')))).message, /412 LeaseIdMissing/);
});

test('templates of the API do not reach this host itself', async () => {
  const error = await failure(upload(endpoint.uri('inner.vhd'), { allowLocal: false }));
  assert.equal(error.code, 'UploadFailed');
  assert.match(error.message, /^127\.0\.0\.1 is an address of this host itself.*to where templates may not upload\.$/);
  const named = endpoint.uri('inner.vhd').replace('127.0.0.1', 'localhost');
  assert.match(
    (await failure(upload(named, { allowLocal: false }))).message,
    /^localhost \(.*to where templates may not upload\.$/,
  );
  assert.deepEqual(endpoint.seen, []);
});

test('an abort ends it at once; what was sent stays', async () => {
  const canceled = new AbortController();
  endpoint.trouble = what => {
    if (what.startsWith('PUT page')) canceled.abort(new Error('enough'));
    return undefined;
  };
  const going = upload(endpoint.uri('canceled.vhd'), { signal: canceled.signal });
  await assert.rejects(going, /enough/);
  assert.ok(endpoint.blobs.has('canceled.vhd'));
});
