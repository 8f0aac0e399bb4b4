/** Lists of Microsoft.Authorization that clients read and that have nothing in them here: nobody is denied anything, and nobody is a classic administrator. */
import { KilnError } from '../../arm/errors.ts';
import { namedItems } from './named-items.ts';
import { requireScope } from './scope.ts';

export const denyAssignments = namedItems({
  type: 'denyAssignments',
  apiVersions: Object.freeze(['2022-04-01', '2019-03-01-preview', '2018-07-01-preview']),
  async list({ environment, scope }) {
    await requireScope(environment.database, scope);
    return [];
  },
  async get(_call, name) {
    throw new KilnError('NotFound', `The deny assignment '${name}' is not found.`);
  },
});

export const classicAdministrators = namedItems({
  type: 'classicAdministrators',
  apiVersions: Object.freeze(['2015-07-01', '2015-06-01']),
  list: async () => [],
});
