import assert from 'node:assert/strict';
import { isIPv4 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { reachable, rules } from './network.ts';
import { firstUid, slotOf } from './slot.ts';

const slots = fc.integer({ min: 0, max: 1023 });
const asNumber = (ip: string) => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

test('a slot has a /30 of its own, inside 198.18.0.0/15', () => {
  fc.assert(
    fc.property(slots, slots, (a, b) => {
      const [one, other] = [slotOf(a), slotOf(b)];
      assert.ok(isIPv4(one.address) && isIPv4(one.hostAddress));
      assert.match(one.address, /^198\.18\./);
      assert.equal(asNumber(one.hostAddress) % 4, 1);
      assert.equal(asNumber(one.address) % 4, 2);
      assert.equal(asNumber(one.address) >> 2 === asNumber(other.address) >> 2, a === b);
      assert.equal(one.uid === other.uid, a === b);
    }),
  );
});

test('a slot keeps to the limits of names and user ids', () => {
  for (const number of [0, 1023]) {
    const slot = slotOf(number);
    assert.ok(slot.name.length <= 15, 'interface names have at most 15 characters');
    assert.ok((slot.uid > 65535 && slot.uid < 100_000) || (slot.uid >= 61184 && slot.uid <= 65519));
  }
  assert.throws(() => slotOf(1024), RangeError);
  assert.throws(() => slotOf(-1), RangeError);
});

test('user ids are those that nobody gives out, as far as the user namespace knows them', () => {
  assert.equal(firstUid('         0          0 4294967295\n'), 70_000);
  assert.equal(firstUid('0 1000 1\n1 100000 65536\n'), 61_184);
  assert.equal(firstUid(''), 70_000);
});

test('rules name their own slot only', () => {
  fc.assert(
    fc.property(slots, number => {
      const names = new Set(rules(slotOf(number)).match(/kiln-\d+/g));
      assert.deepEqual([...names], [`kiln-${number}`]);
    }),
  );
});

test('name servers on the host itself are left out', () => {
  const text =
    'search x\nnameserver 127.0.0.53\n nameserver 10.0.0.2\nnameserver ::1\nnameserver 192.168.1.5\n#nameserver 9.9.9.9\n';
  assert.deepEqual(reachable(text, new Set(['192.168.1.5'])), ['10.0.0.2']);
  assert.deepEqual(reachable('', new Set()), []);
});
