/** Builds that cannot begin or cannot get what they need: sources, scripts, checksums, neighbours. No guest is started. */
import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { kiln, leftovers, temporaryHome } from '../kiln.ts';
import { assertError, errorOf, type Template, writeTemplate } from './bad-input.ts';

const OWN = { type: 'PlatformImage', publisher: 'My', offer: 'own', sku: 'disk', version: 'latest' };
const GROUP = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/strict';

let home: Awaited<ReturnType<typeof temporaryHome>>;
let directory: string;
let server: Server;
let site: string;
/** Of the server that never answers. */
const silent = new Set<string>();

before(async () => {
  home = await temporaryHome();
  directory = join(home.path, 'templates');
  await mkdir(directory);
  server = createServer((request, response) => {
    if (request.url?.startsWith('/silent')) silent.add(request.url);
    else if (request.url?.startsWith('/script')) response.end('echo hello\n');
    else response.writeHead(404).end('nothing here');
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  site = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(async () => {
  server?.closeAllConnections();
  server?.close();
  await home?.remove();
});

/** A template of a name of its own, since a template that is being built refuses another build. */
const spoil = (name: string, change: (template: Template) => void) =>
  writeTemplate(directory, name, template => {
    Object.assign(template, { name });
    change(template);
  });

const script =
  (uri: string, more: Record<string, string> = {}) =>
  (template: Template) => {
    template.properties.customize.push({ type: 'Shell', name: 'second', scriptUri: uri, ...more });
  };

const command = (...args: string[]) => kiln(['--home', home.path, ...args], { KILN_CACHE: join(home.path, 'cache') });
const build = (path: string, ...args: string[]) => command('build', path, ...args);

async function json(...args: string[]) {
  return JSON.parse((await command('--json', ...args)).stdout);
}

describe('a warm start that is refused before its machine', { concurrency: 2 }, () => {
  const warm = (...args: string[]) => command('cache', 'warm', ...args);

  test('because what is named is neither a source nor a template', async () => {
    assertError(
      await warm('nonsense'),
      'usage',
      /"nonsense" is neither the file of a template nor publisher:offer:sku/,
    );
  });

  test('because nobody knows its source or its size', async () => {
    assertError(await warm('Debian:debian-12:12-gen3'), 'source', /Nearest: Debian:debian-12:12-gen2/);
    assertError(await warm('Debian:debian-12:12-gen2', '--os-disk-size', 'x'), 'usage', /whole GiB, not "x"/);
    assertError(await warm('Debian:debian-12:12-gen2', '--size', 'Nope'), 'usage', /the VM size 'Nope'/);
  });

  test('because a container does not boot', async () => {
    const path = await spoil('warm-container', template => {
      Object.assign(template, { tags: { 'kiln.machine': 'container' } });
    });
    assertError(await warm(path), 'usage', /does not boot: it needs no warm start/);
  });
});

describe('a build that fails before its machine', { concurrency: 2 }, () => {
  test('because nobody knows its source: the nearest names are told', async () => {
    const path = await spoil('unknown-source', template => {
      template.properties.source.sku = '12-gen3';
    });
    assertError(
      await build(path),
      'source',
      /No image in the catalogue is called Debian:debian-12:12-gen3/,
      /Nearest: Debian:debian-12:12-gen2/,
    );
    errorOf(await build(path, '--json'), 'SourceNotFound');
  });

  test('because its source was never built here', async () => {
    const path = await spoil('unbuilt-source', template => {
      const imageId = `${GROUP}/providers/Microsoft.Compute/images/nobody-built-it`;
      Object.assign(template.properties, { source: { type: 'ManagedImage', imageId } });
    });
    assertError(await build(path), 'source', /No image was built here that is called .*nobody-built-it/, /images list/);
  });

  test('because a script is not what its checksum says: both sums are told', async () => {
    const wrong = '0'.repeat(64);
    const path = await spoil('checksum', script(`${site}/script.sh`, { sha256Checksum: wrong }));
    assertError(
      await build(path),
      'source',
      /customize\[1\] \(Shell "second"\) has the SHA-256 checksum [0-9a-f]{64}, but the template says 0{64}/,
      /at: .*checksum\.json:\d+:\d+ \(properties\.customize\[1\]\.sha256Checksum\)/,
    );
  });

  test('because a script is not there', async () => {
    const path = await spoil('not-found', script(`${site}/nowhere.sh?sig=secret`));
    const outcome = await build(path);
    assertError(
      outcome,
      'source',
      /the server answered 404/,
      /at: .*not-found\.json:\d+:\d+ \(properties\.customize\[1\]\.scriptUri\)/,
    );
    assert.doesNotMatch(outcome.stderr, /sig=secret/);
  });

  test('because the server of a script never answers: it is given up, and nothing of it stays', async () => {
    const path = await spoil('silent', script(`${site}/silent.sh`));
    assertError(await build(path), 'source', /silent\.sh cannot be fetched: the server sent nothing for 30 s/);
    assert.deepEqual([...silent], ['/silent.sh']);
    assert.deepEqual(
      (await readdir(join(home.path, 'files'))).filter(name => !/^[0-9a-f]{64}$/.test(name)),
      [],
    );
  });

  test('because its disk needs a backing file; nothing of that disk is kept', async () => {
    const base = join(directory, 'base.qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, '64M']);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', join(directory, 'overlay.qcow2')]);
    const catalogue = join(directory, 'catalogue.json');
    await writeFile(catalogue, JSON.stringify({ 'My:own:disk': { file: 'overlay.qcow2' } }));
    const path = await spoil('backing', template => Object.assign(template.properties, { source: OWN }));
    const error = errorOf(await build(path, '--catalogue', catalogue, '--json'), 'SourceUnusable');
    assert.match(error.message, /overlay\.qcow2 needs a backing file/);
    assert.match(error.hint ?? '', /qemu-img convert/);
    const failed = (await json('runs', 'list')).find((one: { name: string }) => one.name === 'backing');
    assert.equal(failed.state, 'Failed');
    assert.equal(failed.error.code, 'SourceUnusable');
    const { phases } = await json('runs', 'show', failed.id);
    assert.deepEqual(
      phases.map((phase: { state: string }) => phase.state),
      ['Failed', ...phases.slice(1).map(() => 'Skipped')],
    );
    const kept = await readdir(join(home.path, 'cache/sources'), { recursive: true });
    assert.deepEqual(
      kept.filter(name => !/^My_own_disk(\/\.lock)?$/.test(name)),
      [],
    );
  });

  test('because its catalogue file cannot be used', async () => {
    const path = await spoil('catalogue', () => {});
    const catalogue = join(directory, 'bad-catalogue.json');
    assertError(
      await build(path, '--catalogue', catalogue),
      'usage',
      /catalogue file .*bad-catalogue\.json cannot be used/,
    );
    await writeFile(catalogue, JSON.stringify({ 'Debian:debian-12:12-gen2': { flie: 'disk.qcow2' } }));
    assertError(
      await build(path, '--catalogue', catalogue),
      'usage',
      /exactly one of "alias", "file", "url" and "bootstrap"/,
    );
  });
});

test('strict mode names everything that nobody has made, and makes nothing', async () => {
  const path = await spoil('strict', template => {
    Object.assign(template, {
      identity: {
        type: 'UserAssigned',
        userAssignedIdentities: {
          [`${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`]: {},
        },
      },
    });
    template.properties.distribute.push({
      type: 'SharedImage',
      runOutputName: 'version',
      galleryImageId: `${GROUP}/providers/Microsoft.Compute/galleries/gallery/images/definition`,
      targetRegions: [{ name: 'westeurope' }],
    });
  });
  // Twice: what the first one refuses to make, the second must not find.
  for (const [attempt, args] of [['--strict'], ['--strict', '--resource-group', 'other']].entries()) {
    const error = errorOf(await build(path, '--json', ...args), 'ResourceNotFound');
    const names = error.details?.map(detail =>
      /^The (.*?) \/.*?([^/]+) does not exist\.$/.exec(detail.message)?.slice(1, 3),
    );
    const neighbours = [
      ['resource group', 'strict'],
      ['identity', 'builder'],
      ['gallery', 'gallery'],
      ['image definition', 'definition'],
    ];
    assert.deepEqual(
      attempt === 0 ? names?.slice(-4) : names,
      attempt === 0 ? neighbours : [['resource group', 'other'], ...neighbours],
    );
    for (const detail of error.details!.slice(-4))
      assert.match(detail.target!, /strict\.json:\d+:\d+ \((identity|properties)/);
  }
});

test('a run that does not exist', async () => {
  const outcome = await command('runs', 'show', 'ffff');
  assertError(outcome, 'usage', /There is no run ffff/, /kiln runs list/);
});

test('nothing was left behind', async () => {
  assert.deepEqual(await leftovers(home.path), []);
  assert.deepEqual(await readdir(join(home.path, 'regions')), []);
});
