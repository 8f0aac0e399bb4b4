/**
 * The names of tags that a subscription has: those in use, counted, and those that somebody has made beforehand (`az tag list|create|add-value`). Nobody has to
 * make one to use it.
 */
import { KilnError } from '../arm/errors.ts';
import { idKey, sameText } from '../arm/ids.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import { requireWholeTags } from '../arm/tags.ts';
import { unlocked } from '../providers/authorization/locked-scopes.ts';
import { subscriptionId } from '../providers/resources/subscriptions.ts';
import { getResource, lockResource, patchProperties, type Store, type StoredResource } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { page } from './paging.ts';
import { isWord, notAllowed, nothing, requireGet } from './request-checks.ts';

/** Made beforehand: values by name, both as they were written. */
type Made = Readonly<Record<string, readonly string[]>>;

/** `segments`: what stands behind `tagNames`. */
export async function tagNames(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  segments: readonly string[],
): Promise<Reply> {
  const [name, word, value, ...more] = segments;
  if (more.length > 0 || (word !== undefined && (!isWord(word, 'tagvalues') || value === undefined)))
    throw nothing(request);
  const id = subscriptionId(request.path.subscription!);
  const { method, caller } = request;
  const verb = method === 'GET' ? 'read' : method === 'PUT' ? 'write' : method === 'DELETE' ? 'delete' : undefined;
  if (!verb) throw notAllowed(request);
  const type = `Microsoft.Resources/subscriptions/tagNames${value === undefined ? '' : '/tagValues'}`;
  await roles.require(caller, `${type}/${verb}`, id);
  if (name === undefined) {
    requireGet(request);
    const all = (await allNames(environment.database, id)).map(one => shownName(id, one));
    const { value: shown, nextLink } = page(all, one => String(one.tagName), request.query, request.url.href);
    return { status: 200, body: { value: shown, ...(nextLink !== undefined && { nextLink }) } };
  }
  if (verb === 'read') throw notAllowed(request);
  requireWholeTags({ [name]: value ?? '' });
  if (verb === 'write' && RESERVED.test(name))
    throw new KilnError(
      'InvalidTagName',
      "Tag names cannot have the following prefixes which are reserved for Azure use: 'microsoft', 'azure', 'windows'.",
      { target: 'tagName' },
    );
  const held = await unlocked(environment, id, verb === 'delete' ? 'delete' : 'write');
  return await held.database.transaction().execute(async trx => {
    await lockResource(trx, id);
    const made = madeIn((await getResource(trx, id))!);
    const known = Object.keys(made).find(one => sameText(one, name));
    const write = (change: Made) => patchProperties(trx, id, { tagNames: change });
    if (verb === 'delete') {
      await requireUnused(trx, id, name, value);
      if (known === undefined) {
        if (value === undefined) return { status: 204 };
        throw noSuchName(name);
      }
      const { [known]: values = [], ...others } = made;
      if (value === undefined) await write(others);
      else {
        const left = values.filter(one => one !== value);
        if (left.length === values.length) return { status: 204 };
        await write({ ...made, [known]: left });
      }
      return { status: 200 };
    }
    const found = (await allNames(trx, id)).find(one => sameText(one.name, name));
    if (value === undefined) {
      if (known === undefined) await write({ ...made, [found?.name ?? name]: [] });
      return { status: found ? 200 : 201, body: shownName(id, found ?? { name, values: new Map() }) };
    }
    if (!found) throw noSuchName(name);
    const before = made[known ?? found.name] ?? [];
    const created = !found.values.has(value);
    if (!before.includes(value)) await write({ ...made, [known ?? found.name]: [...before, value] });
    return { status: created ? 201 : 200, body: shownValue(id, found.name, value, found.values.get(value) ?? 0) };
  });
}

const noSuchName = (name: string) =>
  new KilnError('NotFound', `The tag name '${name}' does not exist in the subscription.`, {
    target: 'tagName',
    hint: `Make it first: az tag create -n ${name}.`,
  });

const RESERVED = /^(microsoft|azure|windows)/i;

interface TagName {
  readonly name: string;
  /** How often each is in use. */
  readonly values: ReadonlyMap<string, number>;
}

function madeIn({ properties }: StoredResource): Made {
  return isObject(properties.tagNames) ? (properties.tagNames as Made) : {};
}

/** Ordered by name. A name that is written in several ways is one. */
async function allNames(store: Store, subscription: string): Promise<TagName[]> {
  const names = new Map<string, { name: string; values: Map<string, number> }>();
  const at = (name: string) => {
    const key = name.toLowerCase();
    const found = names.get(key) ?? { name, values: new Map<string, number>() };
    names.set(key, found);
    return found.values;
  };
  const root = await getResource(store, subscription);
  for (const [name, values] of Object.entries(root ? madeIn(root) : {})) {
    const counted = at(name);
    for (const value of values) counted.set(value, 0);
  }
  for (const tags of await tagsIn(store, subscription))
    for (const [name, value] of Object.entries(tags)) {
      const values = at(name);
      values.set(value, (values.get(value) ?? 0) + 1);
    }
  return [...names.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function tagsIn(store: Store, subscription: string): Promise<Record<string, string>[]> {
  const rows = await store
    .selectFrom('resource')
    .select('tags')
    .where('subscription', '=', idKey(subscription).split('/')[2]!)
    .where('tags', 'is not', null)
    .execute();
  return rows.map(({ tags }) => tags ?? {});
}

/** Errors: Conflict. */
async function requireUnused(store: Store, subscription: string, name: string, value?: string): Promise<void> {
  const used = (await tagsIn(store, subscription)).some(tags =>
    Object.entries(tags).some(([key, one]) => sameText(key, name) && (value === undefined || one === value)),
  );
  if (used)
    throw new KilnError(
      'Conflict',
      `The tag ${value === undefined ? `name '${name}'` : `value '${value}' of '${name}'`} cannot be deleted: resources have it.`,
      { target: 'tagName', hint: 'Take it away from them first: az resource list --tag shows them.' },
    );
}

function shownName(subscription: string, { name, values }: TagName): JsonObject {
  const shown = [...values].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    id: `${subscription}/tagNames/${name}`,
    tagName: name,
    count: { type: 'Total', value: shown.reduce((sum, [, count]) => sum + count, 0) },
    values: shown.map(([value, count]) => shownValue(subscription, name, value, count)),
  };
}

function shownValue(subscription: string, name: string, value: string, count: number): JsonObject {
  return {
    id: `${subscription}/tagNames/${name}/tagValues/${value}`,
    tagValue: value,
    count: { type: 'Total', value: count },
  };
}
