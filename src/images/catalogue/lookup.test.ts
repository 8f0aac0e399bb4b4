import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { KilnError } from '../../arm/errors.ts';
import { parseChecksums, publicationDay } from './checksums.ts';
import { parseIndexTargets } from './debian/mirrors.ts';
import { ALIASES, ENTRIES, formatName, imageName } from './entries.ts';
import { catalogue, findEntry } from './lookup.ts';
import { joinUserEntries, readUserEntries } from './user-entries.ts';

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-catalogue-'));
});
after(() => rm(directory, { recursive: true, force: true }));

const latest = (name: string) => ({ ...imageName(name), version: 'latest' });

test('every built-in name is found, in any case, and is there once', () => {
  const names = ENTRIES.map(entry => formatName(entry).toLowerCase());
  assert.equal(new Set(names).size, names.length);
  for (const entry of ENTRIES) {
    assert.equal(findEntry(latest(formatName(entry).toUpperCase())).entry, entry);
    assert.deepEqual(findEntry(latest(formatName(entry))).notes, []);
  }
});

test('every sibling leads to a disk and every alias to an entry', () => {
  for (const entry of ENTRIES)
    if (entry.origin.kind === 'sibling')
      assert.notEqual(
        findEntry(latest(`${entry.publisher}:${entry.offer}:${entry.origin.sku}`)).entry.origin.kind,
        'sibling',
      );
  for (const alias of ALIASES)
    assert.ok(
      ENTRIES.some(entry => formatName(entry) === formatName(alias.to)),
      formatName(alias.to),
    );
});

test('names of the quickstarts that Azure has retired are followed, and it is said', () => {
  const cases = {
    'Canonical:UbuntuServer:18.04-LTS': 'Canonical:0001-com-ubuntu-server-focal:20_04-lts-gen2',
    'Canonical:UbuntuServer:16.04-LTS': 'Canonical:0001-com-ubuntu-server-focal:20_04-lts-gen2',
    'Canonical:0001-com-ubuntu-server-bionic:18_04-lts-gen2': 'Canonical:0001-com-ubuntu-server-focal:20_04-lts-gen2',
    'OpenLogic:CentOS:7.5': 'almalinux:almalinux-x86_64:8-gen2',
    'Debian:debian-11:11-gen2': 'Debian:debian-12:12-gen2',
  };
  for (const [from, to] of Object.entries(cases)) {
    const found = findEntry({ ...imageName(from), version: '18.04.202401010' });
    assert.equal(formatName(found.entry), to);
    assert.equal(found.version, 'latest');
    assert.match(found.notes[0]!, new RegExp(`^${from.replaceAll('.', '\\.')}: using ${to} instead`));
    assert.match(found.notes[1]!, /Version 18\.04\.202401010 belongs to another image/);
  }
});

test('an unknown name is refused with the nearest ones', () => {
  assert.throws(
    () => findEntry(latest('Canonical:0001-com-ubuntu-server-jammy:22_04-lts-arm64')),
    (error: KilnError) => {
      assert.equal(error.code, 'SourceNotFound');
      assert.match(error.hint!, /^Nearest: Canonical:0001-com-ubuntu-server-jammy:22_04-lts/);
      return true;
    },
  );
});

test("a user's entries win, and may be aliases or local disks", async () => {
  const path = join(directory, 'catalogue.json');
  await writeFile(
    path,
    JSON.stringify({
      'Canonical:0001-com-ubuntu-server-jammy:*': { alias: 'Debian:debian-12:12-gen2' },
      'Debian:debian-12:12-gen2': { file: 'my/disk.qcow2', sha256: 'A'.repeat(64), version: '1.2.3' },
      'Contoso:made:here': { bootstrap: 'ubuntu:noble', firmware: 'uefi' },
      'Contoso:base:one': { url: 'https://example.com/disk.qcow2', sha256: 'b'.repeat(64), hyperVGeneration: 'V1' },
    }),
  );
  const user = await readUserEntries(path);
  const found = findEntry(
    { ...imageName('canonical:0001-COM-ubuntu-server-jammy:22_04-lts-gen2'), version: 'latest' },
    user,
  );
  assert.equal(formatName(found.entry), 'Debian:debian-12:12-gen2');
  assert.deepEqual(found.entry.origin, {
    kind: 'file',
    path: join(directory, 'my/disk.qcow2'),
    sha256: 'a'.repeat(64),
    version: '1.2.3',
  });
  assert.match(found.notes[0]!, /catalogue file says so/);
  assert.equal(findEntry(latest('Contoso:base:one'), user).entry.hyperVGeneration, 'V1');
  const { origin, firmware, provisioning } = findEntry(latest('Contoso:made:here'), user).entry;
  assert.deepEqual(origin, { kind: 'bootstrap', distribution: 'ubuntu', release: 'noble' });
  assert.deepEqual([firmware, provisioning], ['uefi', 'systemd-credentials']);
  const all = catalogue(user).map(formatName);
  assert.equal(all.filter(name => name === 'Debian:debian-12:12-gen2').length, 1);
  assert.ok(!all.some(name => name.includes('jammy')));
  assert.deepEqual(await readUserEntries(join(directory, 'missing.json')), { entries: [], aliases: [] });
  assert.equal(joinUserEntries(user, user).entries.length, 6);
});

test('aliases in a circle end in an error', async () => {
  const path = join(directory, 'circle.json');
  await writeFile(path, '{"a:b:c": {"alias": "a:b:d"}, "a:b:d": {"alias": "a:b:c"}}');
  const user = await readUserEntries(path);
  assert.throws(() => findEntry(latest('a:b:c'), user), { code: 'SourceNotFound', message: /circle/ });
});

test('a bad catalogue file gives one error with its path', async () => {
  const path = join(directory, 'bad.json');
  const cases: [string, RegExp][] = [
    ['{', /not JSON/],
    ['[]', /not an object/],
    ['{"a:b": {"alias": "a:b:c"}}', /"a:b" is not of the form/],
    ['{"a:b:../c": {"file": "x"}}', /is not of the form/],
    ['{"a:b:c": {"alias": "nothing"}}', /"a:b:c"\.alias/],
    ['{"a:b:c": {"file": "x", "alias": "a:b:d"}}', /exactly one of/],
    ['{"a:b:c": {"file": "x", "sha": "1"}}', /"a:b:c"\.sha/],
    ['{"a:b:c": {"file": "x", "version": "1.0"}}', /version/],
    ['{"a:b:c": {"url": "https://example.com/x"}}', /sha256/],
    ['{"a:b:c": {"bootstrap": "ubuntu:sarge"}}', /"ubuntu:sarge" is none of debian:bookworm, .*ubuntu:noble/],
    ['{"a:b:c": {"bootstrap": "ubuntu:noble", "version": "1.2.3"}}', /"a:b:c"\.version/],
    ['{"a:b:c": {"file": "x", "plan": {"name": "n", "product": "p"}}}', /"a:b:c"\.plan\.publisher/],
    ['{"a:b:c": {"alias": "a:b:d", "plan": {}}}', /"a:b:c"\.plan/],
    ['{"a:b:*": {"file": "x"}}', /only an alias/],
    ['{"a:b:c": {"file": "x"}, "A:B:C": {"file": "y"}}', /twice/],
    ['{"a:b:c": null}', /exactly one of/],
  ];
  for (const [text, message] of cases) {
    await writeFile(path, text);
    await assert.rejects(readUserEntries(path), (error: unknown) => {
      assert.ok(error instanceof KilnError);
      assert.equal(error.code, 'UsageError');
      assert.match(error.message, message);
      assert.ok(error.message.includes(path));
      return true;
    });
  }
  await assert.rejects(readUserEntries(join(directory, 'missing.json'), { required: true }), { code: 'UsageError' });
});

test('lists of checksums in all the published forms', () => {
  const a = 'a'.repeat(64);
  const list = parseChecksums(
    [
      '-----BEGIN PGP SIGNED MESSAGE-----',
      '# AlmaLinux-9-GenericCloud-9.7-20251118.x86_64.qcow2: 591265792 bytes',
      `${a} *ubuntu-22.04-server-cloudimg-amd64.img`,
      `${a.toUpperCase()}  ./other.img`,
      `SHA256 (AlmaLinux-9-GenericCloud-latest.x86_64.qcow2) = ${a}`,
      `SHA512 (x) = ${'b'.repeat(128)}`,
      `${'c'.repeat(128)}  long`,
      'nonsense',
    ].join('\r\n'),
    'sha256',
  );
  assert.deepEqual(
    list.map(({ file }) => file),
    ['ubuntu-22.04-server-cloudimg-amd64.img', 'other.img', 'AlmaLinux-9-GenericCloud-latest.x86_64.qcow2'],
  );
  assert.ok(list.every(({ digest }) => digest === a));
  const published = new Date('2026-03-01T23:00:00Z');
  assert.equal(publicationDay(list, a, published), '20260301');
  assert.equal(publicationDay([...list, { file: 'Alma-9.7-20251118.qcow2', digest: a }], a, published), '20251118');
  fc.assert(fc.property(fc.string(), text => void parseChecksums(text, 'sha512')));
});

test("mirrors come from the host's apt: the release's own suites, main only, nothing secret", () => {
  const lines = [
    'http://mirror.example/debian/|bookworm|main|Debian|bookworm',
    'http://mirror.example/debian/|bookworm|contrib|Debian|bookworm',
    'http://mirror.example/debian/|bookworm|main|Debian|bookworm',
    'https://mirror.example/security|stable-security|main|Debian|bookworm-security',
    'http://user:pass@mirror.example/debian/|bookworm-updates|main|Debian|bookworm-updates',
    'file:/srv/debian|bookworm-updates|main|Debian|bookworm-updates',
    'http://other.example/|bookworm|main|Other|bookworm',
    '',
  ];
  assert.deepEqual(parseIndexTargets(lines.join('\n'), 'Debian', 'bookworm'), [
    'deb http://mirror.example/debian/ bookworm main',
    'deb https://mirror.example/security bookworm-security main',
  ]);
  assert.deepEqual(parseIndexTargets(lines.join('\n'), 'Debian', 'trixie'), []);
});
