import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { KilnError } from '../../arm/errors.ts';
import { NEWEST_API_VERSION } from './api-versions.ts';
import { normaliseTemplate } from './normalise.ts';
import { type Download, prepareTemplate, provisioningErrorCode, shownUrl } from './prepare.ts';
import { validateTemplate } from './validate.ts';

const files = await mkdtemp(join(tmpdir(), 'kiln-files-'));
after(() => rm(files, { recursive: true }));

const CONTENT: Record<string, string> = { 'https://h/setup.sh': 'echo hello\n', 'https://h/f?sig=secret': 'data' };
const sum = (text: string): string => createHash('sha256').update(text).digest('hex');

let downloads = 0;
/** A web of two pages. */
const download: Download = async (url, { to, signal, onAttempt }) => {
  downloads += 1;
  signal?.throwIfAborted();
  const content = CONTENT[url];
  await writeFile(to, content ?? 'half of it');
  for (const attempt of [1, 2]) onAttempt?.(attempt, 3);
  if (content === undefined)
    throw new KilnError('DownloadFailed', 'The server answered 404.', { hint: 'Check the URL.' });
  return { sha256: sum(content), size: content.length };
};

function template(...customize: object[]) {
  const { template: checked, violations } = validateTemplate(
    {
      location: 'eastus',
      properties: {
        source: { type: 'PlatformImage', publisher: 'p', offer: 'o', sku: 's', version: 'latest' },
        customize,
        distribute: [{ type: 'VHD', runOutputName: 'o' }],
      },
    },
    { apiVersion: NEWEST_API_VERSION, identityOptional: true },
  );
  assert.deepEqual(violations, []);
  return normaliseTemplate(checked, NEWEST_API_VERSION);
}

test('scripts and files are kept under their checksum, which is filled in; a URL is fetched once', async () => {
  downloads = 0;
  const lines: string[] = [];
  const prepared = await prepareTemplate(
    template(
      { type: 'Shell', inline: ['true'] },
      { type: 'Shell', scriptUri: 'https://h/setup.sh' },
      { type: 'File', sourceUri: 'https://h/f?sig=secret', destination: '/tmp/f' },
      { type: 'Shell', scriptUri: 'https://h/setup.sh', sha256Checksum: sum('echo hello\n').toUpperCase() },
    ),
    { files, download, report: line => lines.push(line) },
  );
  assert.equal(downloads, 2);
  assert.deepEqual(
    prepared.template.properties.customize.map(step => 'sha256Checksum' in step && step.sha256Checksum),
    [false, sum('echo hello\n'), sum('data'), sum('echo hello\n')],
  );
  assert.deepEqual((await readdir(files)).sort(), [sum('echo hello\n'), sum('data')].sort());
  assert.equal(await readFile(prepared.files[1]!.file, 'utf8'), 'data');
  assert.deepEqual(
    prepared.files.map(file => file.path),
    ['properties.customize[1]', 'properties.customize[2]', 'properties.customize[3]'],
  );
  assert.ok(!lines.join().includes('secret'));
});

test('a wrong checksum names both sums and the step', async () => {
  const wrong = 'f'.repeat(64);
  const error: KilnError = await prepareTemplate(
    template({ type: 'Shell', name: 'set up', scriptUri: 'https://h/setup.sh', sha256Checksum: wrong }),
    { files, download },
  ).then(
    () => assert.fail('accepted'),
    (thrown: unknown) => thrown as KilnError,
  );
  assert.equal(error.code, 'ChecksumMismatch');
  assert.equal(error.target, 'properties.customize[0].sha256Checksum');
  for (const part of [wrong, sum('echo hello\n'), 'customize[0] (Shell "set up")'])
    assert.ok(error.message.includes(part), error.message);
  assert.equal(provisioningErrorCode(error), 'NoCustomizerScript');
});

test('what cannot be fetched is told with step and reason, and leaves nothing half-written', async () => {
  const before = await readdir(files);
  await assert.rejects(
    prepareTemplate(template({ type: 'Shell', scriptUri: 'https://h/none?sig=secret' }), { files, download }),
    {
      code: 'DownloadFailed',
      target: 'properties.customize[0].scriptUri',
      message:
        /^Downloading external file \(https:\/\/h\/none\?…\) to local file \((\w{5}\.0\.customizer\.fp)\) \[attempt 2 of 3\] failed: Error downloading 'https:\/\/h\/none\?…' to '\1'\.\. It is for properties\.customize\[0\] \(Shell\): The server answered 404\.$/,
      hint: 'Check the URL.',
    },
  );
  assert.deepEqual(await readdir(files), before);
  await assert.rejects(
    prepareTemplate(template({ type: 'Shell', scriptUri: 'https://h/setup.sh' }), {
      files,
      download,
      signal: AbortSignal.abort(),
    }),
    { name: 'AbortError' },
  );
  assert.deepEqual(await readdir(files), before);
});

test('URLs are shown without their secrets', () => {
  assert.equal(shownUrl('https://user:word@h:8443/a/b?sig=1'), 'https://h:8443/a/b?…');
  assert.equal(shownUrl('file:///a/b'), 'file:///a/b');
});
