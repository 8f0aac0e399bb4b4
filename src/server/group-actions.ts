/** What can be asked of a resource group besides: to move what is in it, to write it down as a template. Kiln refuses both, and says why. */
import { KilnError } from '../arm/errors.ts';
import { formatId, idKey, parseId, resourceGroupId, tryParseId } from '../arm/ids.ts';
import { isObject } from '../arm/shape.ts';
import { unlocked } from '../providers/authorization/locked-scopes.ts';
import { requireResource } from '../providers/life.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { isWord, notAllowed } from './request-checks.ts';

const GROUPS = 'Microsoft.Resources/subscriptions/resourceGroups';

export async function groupAction(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  action: string,
): Promise<Reply> {
  const { path, method, caller, body } = request;
  if (method !== 'POST') throw notAllowed(request);
  const id = resourceGroupId(path.subscription!, path.resourceGroup!);
  const name = ['moveResources', 'validateMoveResources', 'exportTemplate'].find(one =>
    isWord(action, one.toLowerCase()),
  )!;
  await roles.require(caller, `${GROUPS}/${name}/action`, id);
  await unlocked(environment, id, 'write');
  const { database } = environment;
  const group = await requireResource(database, id);
  if (name === 'exportTemplate')
    throw new KilnError(
      'MethodNotAllowed',
      `The resource group '${group.name}' cannot be exported: Kiln writes no templates of what is there.`,
      {
        hint: 'az resource list, and az resource show of each, print all that there is.',
      },
    );
  const ids = movedIds(body, id);
  const resources = [];
  for (const one of ids) resources.push(await requireResource(database, one));
  const correlation = request.correlationId;
  throw new KilnError(
    'ResourceMoveProviderValidationFailed',
    `Resource move validation failed. Please see details. Diagnostic information: subscription id '${path.subscription}', request correlation id '${correlation}'.`,
    {
      details: resources.map(
        one =>
          new KilnError(
            'ResourceMoveNotSupported',
            `Resource move is not supported for resource types '${one.type}'.`,
            {
              target: one.id,
            },
          ),
      ),
      hint: 'Make them anew in the other resource group.',
    },
  );
}

const MOST = 800;

/** Untrusted. Errors: InvalidRequestContent, InvalidParameter. */
function movedIds(body: unknown, group: string): string[] {
  const given: unknown = isObject(body) ? body.resources : undefined;
  const target: unknown = isObject(body) ? body.targetResourceGroup : undefined;
  if (!Array.isArray(given) || given.length === 0 || given.some(one => typeof one !== 'string'))
    throw new KilnError(
      'InvalidRequestContent',
      'The request to move resources is invalid: resources must be a list of resource ids.',
      { target: 'resources' },
    );
  if (given.length > MOST)
    throw new KilnError('InvalidParameter', `A request moves at most ${MOST} resources.`, { target: 'resources' });
  const destination = typeof target === 'string' ? tryParseId(target) : undefined;
  if (destination?.resourceGroup === undefined || destination.names.length !== 1)
    throw new KilnError(
      'InvalidRequestContent',
      'The request to move resources is invalid: targetResourceGroup must be the id of a resource group.',
      { target: 'targetResourceGroup' },
    );
  return given.map((one: string) => {
    const id = parseId(one, 'resources');
    const { subscription, resourceGroup } = id;
    if (resourceGroup !== undefined && idKey(resourceGroupId(subscription, resourceGroup)) === idKey(group))
      return formatId(id);
    throw new KilnError('InvalidParameter', `The resource '${one}' is not in the resource group '${group}'.`, {
      target: 'resources',
    });
  });
}
