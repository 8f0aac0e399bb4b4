/** POST Microsoft.Storage/checkNameAvailability: az asks before it makes an account. */
import { KilnError } from '../../arm/errors.ts';
import { isObject } from '../../arm/shape.ts';
import type { SubscriptionAction } from '../subscription-action.ts';
import { accountOfName, checkAccountName, takenMessage } from './account-names.ts';
import { STORAGE_API_VERSIONS, storageAccounts } from './storage-accounts.ts';

export const checkNameAvailability: SubscriptionAction = Object.freeze({
  namespace: 'Microsoft.Storage',
  name: 'checkNameAvailability',
  apiVersions: STORAGE_API_VERSIONS,
  permission: 'Microsoft.Storage/checknameavailability/read',
  async run({ environment }, body) {
    const { name, type } = isObject(body) ? body : {};
    if (typeof name !== 'string')
      throw new KilnError('InvalidParameter', "Required parameter 'name' is missing (null).", { target: 'name' });
    if (typeof type !== 'string' || type.toLowerCase() !== storageAccounts.type.toLowerCase())
      throw new KilnError('InvalidParameter', 'The value of parameter type is invalid.', {
        target: 'type',
        hint: `It must be ${storageAccounts.type}.`,
      });
    const violation = checkAccountName(name);
    const refused = (reason: string, message: string) => ({
      status: 200 as const,
      body: { nameAvailable: false, reason, message },
    });
    if (violation) return refused('AccountNameInvalid', violation.message);
    const owner = await accountOfName(environment.database, name);
    if (owner !== undefined) return refused('AlreadyExists', takenMessage(name));
    return { status: 200, body: { nameAvailable: true } };
  },
} satisfies SubscriptionAction);
