import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  changedSharing,
  isOpen,
  isShared,
  isSharedWith,
  type SharingProfile,
  type SharingUpdate,
} from './sharing-profile.ts';

const A = '00000000-0000-4000-8000-00000000000a';
const B = '00000000-0000-4000-8000-00000000000b';
const GROUPS: SharingProfile = { permissions: 'Groups' };
const subscriptions = (...ids: string[]) => [{ type: 'Subscriptions' as const, ids }];

test('what is added is seen by whom it is added for, until it is removed', () => {
  const added = changedSharing(GROUPS, { operationType: 'Add', groups: subscriptions(A) });
  assert.ok(isSharedWith(added, { subscription: A.toUpperCase(), tenantId: B }));
  assert.ok(!isSharedWith(added, { subscription: B, tenantId: A }), 'a tenant is no subscription');
  assert.ok(!isSharedWith(added, { subscription: A, tenantId: B }, 'tenant'));
  const removed = changedSharing(added, { operationType: 'Remove', groups: subscriptions(A.toUpperCase()) });
  assert.ok(!isShared(removed));
  assert.equal(changedSharing(added, { operationType: 'Reset' }).permissions, 'Private');
});

test('a gallery is shared only in the way that its permissions say', () => {
  for (const permissions of ['Private', 'Community'] as const) {
    const profile = { permissions, groups: subscriptions(A) };
    assert.ok(!isSharedWith(profile, { subscription: A, tenantId: A }), permissions);
    assert.throws(() => changedSharing(profile, { operationType: 'Add', groups: subscriptions(B) }), {
      code: 'InvalidParameter',
    });
  }
  assert.throws(() => changedSharing(GROUPS, { operationType: 'EnableCommunity' }), { code: 'InvalidParameter' });
  assert.throws(() => changedSharing(undefined, { operationType: 'Add', groups: subscriptions(B) }), /'Private'/);
  const open = changedSharing({ permissions: 'Community' }, { operationType: 'EnableCommunity' });
  assert.ok(isOpen(open));
  assert.ok(!isShared(changedSharing(open, { operationType: 'Reset' })));
});

test('any additions and removals leave each id once, and those that were added last', () => {
  const ids = fc.subarray([A, B, A.toUpperCase()]);
  const update: fc.Arbitrary<SharingUpdate> = fc.record({
    operationType: fc.constantFrom('Add' as const, 'Remove' as const),
    groups: fc.array(fc.record({ type: fc.constantFrom('Subscriptions' as const, 'AADTenants' as const), ids })),
  });
  fc.assert(
    fc.property(fc.array(update), updates => {
      const expected = { Subscriptions: new Set<string>(), AADTenants: new Set<string>() };
      let profile = GROUPS;
      for (const one of updates) {
        profile = changedSharing(profile, one);
        for (const group of one.groups ?? [])
          for (const id of group.ids)
            expected[group.type][one.operationType === 'Add' ? 'add' : 'delete'](id.toLowerCase());
      }
      for (const [type, wanted] of Object.entries(expected)) {
        const found = (profile.groups ?? []).filter(group => group.type === type).flatMap(group => group.ids);
        assert.deepEqual(found.map(id => id.toLowerCase()).sort(), [...wanted].sort());
      }
    }),
  );
});
