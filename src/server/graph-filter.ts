/** `$filter` of Microsoft Graph's lists of principals. */
import { matches, parseFilter, unknownInFilter } from '../arm/filter.ts';
import type { Principal } from '../directory/principals.ts';

/** OData's way of asking for a member of a list: `servicePrincipalNames/any(c:c eq 'X')`. */
const ANY = /servicePrincipalNames\/any\(\s*(\w+)\s*:\s*\1\s+eq\s+('(?:[^']|'')*')\s*\)/gi;

const FIELDS = [
  ...['appId', 'id', 'displayName', 'servicePrincipalNames/any(x:x eq …)', 'servicePrincipalType'],
  ...['userPrincipalName', 'startswith()'],
];

/** Errors: InvalidFilterInQueryString, for what is not known here as well: an answer that ignored it would name the wrong principals. */
export function principalFilter(text: string): (principal: Principal) => boolean {
  const filter = parseFilter(text.replaceAll(ANY, 'servicePrincipalNames eq $2'));
  return principal => {
    const field = (name: string): string => {
      switch (name) {
        case 'id':
          return principal.object_id;
        case 'appid':
        case 'serviceprincipalnames':
          return principal.client_id;
        case 'displayname':
          return principal.display_name;
        case 'serviceprincipaltype':
          return principal.kind;
        case 'userprincipalname':
          return principal.user_name ?? '';
        default:
          throw unknownInFilter(name, FIELDS);
      }
    };
    return matches(filter, {
      is: (name, value) => field(name).toLowerCase() === value.toLowerCase(),
      call(name, [of = '', start = '']) {
        if (name !== 'startswith') throw unknownInFilter(`${name}()`, FIELDS);
        return field(of.toLowerCase()).toLowerCase().startsWith(start.toLowerCase());
      },
    });
  };
}
