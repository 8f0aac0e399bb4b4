/** With whom a gallery is shared: subscriptions and tenants that are named (`Groups`), or everybody (`Community`). */
import { KilnError } from '../../arm/errors.ts';
import { sameText } from '../../arm/ids.ts';
import type { Resource } from '../../arm/resource-type.ts';
import { isObject } from '../../arm/shape.ts';

export interface SharingGroup {
  readonly type: 'Subscriptions' | 'AADTenants';
  readonly ids: readonly string[];
}

export interface CommunityInfo {
  readonly publisherUri?: string;
  readonly publisherContact?: string;
  readonly eula?: string;
  readonly publicNamePrefix?: string;
  readonly communityGalleryEnabled?: boolean;
  readonly publicNames?: readonly string[];
}

export interface SharingProfile {
  readonly permissions: 'Private' | 'Groups' | 'Community';
  readonly groups?: readonly SharingGroup[];
  readonly communityGalleryInfo?: CommunityInfo;
}

export const OPERATION_TYPES = ['Add', 'Remove', 'Reset', 'EnableCommunity'] as const;

export interface SharingUpdate {
  readonly operationType: (typeof OPERATION_TYPES)[number];
  readonly groups?: readonly SharingGroup[];
}

/** Undefined for a gallery whose sharing nobody has ever set: it is private. */
export function sharingOf({ properties }: Pick<Resource, 'properties'>): SharingProfile | undefined {
  const { sharingProfile } = properties;
  return isObject(sharingProfile) ? (sharingProfile as unknown as SharingProfile) : undefined;
}

/** Whether anybody sees it at the moment. */
export function isShared(profile: SharingProfile): boolean {
  return (profile.groups ?? []).some(({ ids }) => ids.length > 0) || isOpen(profile);
}

/** Whether everybody sees it. */
export const isOpen = ({ permissions, communityGalleryInfo }: SharingProfile): boolean =>
  permissions === 'Community' && communityGalleryInfo?.communityGalleryEnabled === true;

export interface Viewer {
  readonly subscription: string;
  readonly tenantId: string;
}

/** Whether a gallery is shared with a subscription by its own name or, `through` its tenant, by that. */
export function isSharedWith(
  profile: SharingProfile | undefined,
  viewer: Viewer,
  through: 'either' | 'tenant' | 'subscription' = 'either',
): boolean {
  if (profile?.permissions !== 'Groups') return false;
  const has = (type: SharingGroup['type'], id: string) =>
    (profile.groups ?? []).some(group => group.type === type && group.ids.some(one => sameText(one, id)));
  return (
    (through !== 'tenant' && has('Subscriptions', viewer.subscription)) ||
    (through !== 'subscription' && has('AADTenants', viewer.tenantId))
  );
}

/** The profile after a `share`. Errors: InvalidParameter, where the gallery's permissions do not allow it. */
export function changedSharing(profile: SharingProfile | undefined, update: SharingUpdate): SharingProfile {
  const before: SharingProfile = profile ?? { permissions: 'Private' };
  const { operationType, groups = [] } = update;
  const required = operationType === 'EnableCommunity' ? 'Community' : 'Groups';
  if (operationType !== 'Reset' && before.permissions !== required)
    throw new KilnError(
      'InvalidParameter',
      `The sharing operation '${operationType}' is not allowed: the permissions of the gallery are '${before.permissions}', not '${required}'.`,
      { target: 'operationType', hint: `az sig update --permissions ${required.toLowerCase()}` },
    );
  switch (operationType) {
    case 'EnableCommunity':
      return { ...before, communityGalleryInfo: { ...before.communityGalleryInfo, communityGalleryEnabled: true } };
    case 'Reset':
      return {
        permissions: 'Private',
        // The public name stays the gallery's, should it be shown again.
        ...(before.communityGalleryInfo && {
          communityGalleryInfo: { ...before.communityGalleryInfo, communityGalleryEnabled: false },
        }),
      };
    case 'Add':
    case 'Remove': {
      const after = (['Subscriptions', 'AADTenants'] as const).map((type): SharingGroup => {
        const of = (list: readonly SharingGroup[]) => list.filter(one => one.type === type).flatMap(({ ids }) => ids);
        const [had, named] = [of(before.groups ?? []), of(groups)];
        const ids =
          operationType === 'Remove'
            ? had.filter(id => !named.some(one => sameText(one, id)))
            : [...had, ...named].filter((id, index, all) => all.findIndex(one => sameText(one, id)) === index);
        return { type, ids };
      });
      return { ...before, groups: after.filter(({ ids }) => ids.length > 0) };
    }
  }
}
