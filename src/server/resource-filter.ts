/** `$filter` of lists of resources of all types, and of resource groups. */
import { type FilterSubject, unknownInFilter } from '../arm/filter.ts';
import { findRegion } from '../arm/locations.ts';
import { isObject } from '../arm/shape.ts';

/** `tagName eq 'a' and tagValue eq 'b'` speaks of one tag: the filter has to hold for any one of them, or without. */
export function anyTag(
  tags: Readonly<Record<string, string>>,
  holds: (key: string | undefined, value: string | undefined) => boolean,
): boolean {
  return holds(undefined, undefined) || Object.entries(tags).some(([key, value]) => holds(key, value));
}

/** What a filter asks about. */
export interface FilteredResource {
  readonly name: string;
  readonly type: string;
  readonly location: string | null;
  readonly group: string | undefined;
  readonly identity: unknown;
  /** Of a product that is bought; no type of Kiln's own has one. */
  readonly plan: unknown;
}

const FIELDS = [
  'name',
  'resourceType',
  'resourceGroup',
  'location',
  'tagName',
  'tagValue',
  'identity/principalId',
  'plan/name',
  'plan/publisher',
  'plan/product',
  'substringof()',
  'startswith()',
];

export function resourceSubject(
  subject: FilteredResource,
  tagName: string | undefined,
  tagValue: string | undefined,
): FilterSubject {
  const text = (field: string): string | undefined => {
    switch (field) {
      case 'name':
        return subject.name;
      case 'resourcetype':
        return subject.type;
      case 'resourcegroup':
        return subject.group;
      case 'location':
        return subject.location ?? '';
      case 'tagname':
        return tagName;
      case 'tagvalue':
        return tagValue;
      case 'plan/name':
      case 'plan/publisher':
      case 'plan/product':
        return partOf(subject.plan, field.slice('plan/'.length));
      default:
        throw unknownInFilter(field, FIELDS);
    }
  };
  return {
    is(field, value) {
      if (field === 'tagvalue') return tagValue === value;
      if (field === 'location') return subject.location === (findRegion(value)?.name ?? value);
      if (field === 'identity/principalid') return principals(subject.identity).includes(value.toLowerCase());
      return text(field)?.toLowerCase() === value.toLowerCase();
    },
    call(name, [first = '', second = '']) {
      // OData 2 and 4 differ in the order of their arguments.
      if (name === 'substringof')
        return text(second.toLowerCase())?.toLowerCase().includes(first.toLowerCase()) ?? false;
      if (name === 'startswith')
        return text(first.toLowerCase())?.toLowerCase().startsWith(second.toLowerCase()) ?? false;
      throw unknownInFilter(`${name}()`, FIELDS);
    },
  };
}

function partOf(plan: unknown, name: string): string | undefined {
  const value = isObject(plan) ? plan[name] : undefined;
  return typeof value === 'string' ? value : undefined;
}

function principals(identity: unknown): string[] {
  if (!isObject(identity)) return [];
  const assigned = isObject(identity.userAssignedIdentities) ? Object.values(identity.userAssignedIdentities) : [];
  return [identity, ...assigned].flatMap(one =>
    isObject(one) && typeof one.principalId === 'string' ? [one.principalId.toLowerCase()] : [],
  );
}
