import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  compareVersions,
  defaultScheme,
  formatVersion,
  isVersion,
  MAX_VERSION_PART,
  nextVersion,
  parseVersion,
} from './version-numbers.ts';

const now = new Date('2020-11-10T05:51:40Z');
const DOCUMENTED = ['0.1.1', '0.1.2', '1.0.0', '1.0.1', '1.1.0', '1.1.1', '1.2.0', '2.0.0', '2.0.1', '2.1.0'];
const latest = (existing: readonly string[], major?: number) =>
  nextVersion(existing, { scheme: 'latest', now, ...(major !== undefined && { major }) });

test("latest: the documentation's own example", () => {
  assert.equal(latest(DOCUMENTED), '2.1.1');
  assert.equal(latest(DOCUMENTED, -1), '2.1.1');
  assert.equal(latest(DOCUMENTED, 2), '2.1.1');
  assert.equal(latest(DOCUMENTED, 1), '1.2.1');
  assert.equal(latest(DOCUMENTED, 0), '0.1.3');
});

test('latest: nothing there yet, and full numbers', () => {
  assert.equal(latest([]), '1.0.0');
  assert.equal(latest(DOCUMENTED, 7), '7.0.1');
  assert.equal(latest([`1.2.${MAX_VERSION_PART}`]), '1.3.0');
  assert.equal(latest([`1.${MAX_VERSION_PART}.${MAX_VERSION_PART}`]), '2.0.0');
  assert.throws(() => latest([`1.${MAX_VERSION_PART}.${MAX_VERSION_PART}`], 1), { code: 'InvalidParameter' });
});

test('legacy: a version that the service published that second', () => {
  assert.equal(nextVersion([], { scheme: 'legacy', now }), '0.24490.10860');
  assert.equal(nextVersion(['0.24490.10860'], { scheme: 'legacy', now }), '0.24490.10861');
});

test('explicit: as it is, once', () => {
  assert.equal(nextVersion(['1.0.0'], { explicit: '1.0.1', scheme: 'latest', now }), '1.0.1');
  assert.throws(() => nextVersion(['1.0.0'], { explicit: '1.0.0', scheme: 'latest', now }), { code: 'Conflict' });
  assert.throws(() => nextVersion([], { explicit: '1.0', scheme: 'latest', now }), { code: 'InvalidParameter' });
});

test("source: the source's number, or the next patch", () => {
  const source = (existing: readonly string[], sourceVersion: string) =>
    nextVersion(existing, { scheme: 'source', sourceVersion, now });
  assert.equal(source([], '18.04.202401161'), '18.4.202401161');
  assert.equal(source(['18.4.202401161'], '18.04.202401161'), '18.4.202401162');
  assert.equal(source(['18.4.7', '99.0.0'], '18.04.5'), '18.4.8');
  assert.equal(source([], '9.3.20231113.1'), '9.3.20231113');
  assert.equal(source([], '7.9'), '7.9.0');
  for (const version of ['latest', '', '1.x.0', '1.2.99999999999', '1..2', '-1.0.0'])
    assert.throws(() => source([], version), { code: 'InvalidParameter' }, version);
});

test('source: four parts, days and moments become three parts, each build one of its own', () => {
  const source = (existing: readonly string[], sourceVersion: string) =>
    nextVersion(existing, { scheme: 'source', sourceVersion, now });
  // Two builds of one day have one number less than they had versions: the second is the next patch.
  assert.equal(source(['9.3.20231113'], '9.3.20231113.2'), '9.3.20231114');
  assert.equal(source([], '2021.05.20210528'), '2021.5.20210528');
  assert.equal(source([], '20231113'), '20231113.0.0');
  assert.equal(source([], '202311130930'), '20231113.930.0');
  assert.equal(source([], '20231113093059'), '20231113.93059.0');
  assert.equal(source([], '9.202311130930'), '9.20231113.930');
  assert.equal(source([], '9.4.202311130930'), '9.4.20231113');
  assert.throws(() => source([`1.0.${MAX_VERSION_PART}`], '1.0.5'), { code: 'InvalidParameter' });
});

test('explicit: the same numbers written otherwise are the same version', () => {
  assert.throws(() => nextVersion(['1.0.0'], { explicit: '01.0.00', scheme: 'latest', now }), { code: 'Conflict' });
  assert.equal(nextVersion([], { explicit: '2018.012.1', scheme: 'latest', now }), '2018.12.1');
});

test('the default scheme follows the api-version', () => {
  assert.equal(defaultScheme('2022-02-14'), 'legacy');
  assert.equal(defaultScheme('2022-07-01'), 'latest');
});

test('comparison is by number, and of any number of parts', () => {
  assert.ok(compareVersions('1.10.0', '1.9.0') > 0);
  assert.ok(compareVersions('18.04.202401161', '18.04.202310120') > 0);
  assert.equal(compareVersions('1.0', '1.0.0'), 0);
  for (const text of ['1.0', '1.0.0.0', '1.0.x', `1.0.${MAX_VERSION_PART + 1}`, '-1.0.0', ''])
    assert.equal(isVersion(text), false, text);
});

const part = fc.oneof(fc.nat(5), fc.nat(MAX_VERSION_PART), fc.constant(MAX_VERSION_PART));
const version = fc.tuple(part, part, part).map(formatVersion);
const valid = (text: string): void => {
  assert.ok(parseVersion(text), text);
};

test('property: latest is valid, new, and greater than all that count', () => {
  fc.assert(
    fc.property(fc.array(version), fc.integer({ min: -1, max: 5 }), (existing, major) => {
      const counting = existing.filter(one => major === -1 || parseVersion(one)![0] === major);
      if (counting.some(one => one.endsWith(`${MAX_VERSION_PART}.${MAX_VERSION_PART}`))) return;
      const next = latest(existing, major);
      valid(next);
      assert.ok(!existing.includes(next));
      for (const one of counting) assert.ok(compareVersions(next, one) > 0);
      if (major !== -1) assert.equal(parseVersion(next)![0], major);
    }),
  );
});

test('property: source is valid, new, and greater than all of its major.minor', () => {
  fc.assert(
    fc.property(fc.array(version), version, (existing, sourceVersion) => {
      const [major, minor] = parseVersion(sourceVersion)!;
      const same = existing.filter(one => one.startsWith(`${major}.${minor}.`));
      if (same.some(one => one.endsWith(`.${MAX_VERSION_PART}`))) return;
      const next = nextVersion(existing, { scheme: 'source', sourceVersion, now });
      valid(next);
      for (const one of same) assert.ok(compareVersions(next, one) > 0);
      assert.ok(compareVersions(next, sourceVersion) >= 0);
    }),
  );
});

test('property: legacy follows the clock and never repeats', () => {
  fc.assert(
    fc.property(
      fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }),
      fc.nat(4),
      (date, taken) => {
        const existing: string[] = [];
        for (let index = 0; index <= taken; index++)
          existing.push(nextVersion(existing, { scheme: 'legacy', now: date }));
        assert.equal(new Set(existing).size, existing.length);
        const seconds = Math.floor(date.getTime() / 1000);
        const [, high, low] = parseVersion(existing[0]!)!;
        assert.equal(high * 65536 + low, seconds);
      },
    ),
  );
});

test('property: any numbers with points become a valid version that is new', () => {
  const number = fc.oneof(fc.nat(99), fc.integer({ min: 20000101, max: 20991231 }), fc.nat(MAX_VERSION_PART));
  const versions = fc.array(number, { minLength: 1, maxLength: 5 }).map(parts => parts.join('.'));
  fc.assert(
    fc.property(fc.array(versions, { minLength: 1, maxLength: 6 }), sources => {
      const existing: string[] = [];
      for (const sourceVersion of sources) {
        if (existing.some(one => one.endsWith(`.${MAX_VERSION_PART}`))) return;
        const next = nextVersion(existing, { scheme: 'source', sourceVersion, now });
        valid(next);
        assert.ok(!existing.includes(next));
        const [major, minor = 0, patch = 0] = sourceVersion.split('.').map(Number);
        assert.deepEqual(parseVersion(next)!.slice(0, 2), [major, minor]);
        assert.ok(parseVersion(next)![2] >= patch);
        existing.push(next);
      }
    }),
  );
});

test('property: an explicit version is used once, and is what it says', () => {
  fc.assert(
    fc.property(fc.array(version), version, (existing, explicit) => {
      const make = () => nextVersion(existing, { explicit, scheme: 'latest', now });
      if (existing.includes(explicit)) assert.throws(make, { code: 'Conflict' });
      else {
        assert.equal(make(), explicit);
        assert.throws(() => nextVersion([...existing, explicit], { explicit, scheme: 'latest', now }), {
          code: 'Conflict',
        });
      }
    }),
  );
});

test('property: latest never gives one number twice, also where patches and minors are full', () => {
  const edge = fc.constantFrom(0, 1, MAX_VERSION_PART - 1, MAX_VERSION_PART);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(2), edge, edge).map(formatVersion)),
      fc.integer({ min: -1, max: 2 }),
      (all, major) => {
        const existing = [...all];
        for (let built = 0; built < 4; built++) {
          let next: string;
          try {
            next = latest(existing, major);
          } catch (error) {
            assert.equal((error as { code: string }).code, 'InvalidParameter');
            const full = `${MAX_VERSION_PART}.${MAX_VERSION_PART}`;
            assert.ok(existing.some(one => one.endsWith(`.${full}`) && (major === -1 || one.startsWith(`${major}.`))));
            return;
          }
          valid(next);
          assert.ok(!existing.includes(next), next);
          existing.push(next);
        }
      },
    ),
  );
});
