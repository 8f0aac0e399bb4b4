/** POST on a storage account, about its keys. */
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';
import { formatId } from '../../arm/ids.ts';
import { isObject } from '../../arm/shape.ts';
import { requireResource } from '../life.ts';
import type { Action, Answer, ResourceCall } from '../provider.ts';
import { KEY_NAMES, renewKey, requireKeys } from './account-keys.ts';

const listKeys: Action = {
  permission: 'listKeys/action',
  run: async call => await keysAnswer(call),
};

const regenerateKey: Action = {
  permission: 'regenerateKey/action',
  async run(call, body) {
    const given = isObject(body) ? body.keyName : undefined;
    const { environment } = call;
    const account = await requireResource(environment.database, formatId(call.id));
    const name = KEY_NAMES.find(one => one === given);
    if (name === undefined)
      throw new KilnError('InvalidParameter', `The value of parameter keyName is invalid.`, {
        target: 'keyName',
        hint: `It must be one of ${KEY_NAMES.join(', ')}.`,
      });
    await renewKey(environment.database, environment.home, account, name);
    return await keysAnswer(call);
  },
};

const revokeUserDelegationKeys: Action = {
  permission: 'revokeUserDelegationKeys/action',
  async run({ environment, id }) {
    const account = await requireResource(environment.database, formatId(id));
    await renewKey(environment.database, environment.home, account, 'delegation');
    return { status: 200 };
  },
};

export const keyActions: Readonly<Record<string, Action>> = Object.freeze({
  listkeys: listKeys,
  regeneratekey: regenerateKey,
  revokeuserdelegationkeys: revokeUserDelegationKeys,
});

/** `$expand=kerb` asks for keys of a directory's domain, which no account has here. */
async function keysAnswer({ environment, id, apiVersion }: ResourceCall): Promise<Answer> {
  const account = await requireResource(environment.database, formatId(id));
  const keys = await requireKeys(environment.database, environment.home, account);
  return {
    status: 200,
    body: {
      keys: keys.map(({ name, value, created }) => ({
        ...(isSince(apiVersion, '2021-02-01') && { creationTime: created.toISOString() }),
        keyName: name,
        value: value.toString('base64'),
        permissions: 'FULL',
      })),
    },
  };
}
