// Whether a role's permissions cover an action: `Microsoft.Compute/images/read` by `Microsoft.Compute/*` and by `*/read`. Case does not matter.
import type { Permission } from '../../database/schema.ts';

/** Tells whether an action, in lower case, is covered. */
export type ActionTest = (action: string) => boolean;

export interface CompiledPermissions {
  /** Of the control plane: what requests to Resource Manager need. */
  readonly control: ActionTest;
  /** Of the data plane: reading a blob. */
  readonly data: ActionTest;
  /** Whether anything can be read by them: what lists of subscriptions and groups go by. */
  readonly reads: boolean;
}

/** Within one permission, what a `not` names is taken away; several permissions add up. */
export function compilePermissions(permissions: readonly Permission[]): CompiledPermissions {
  const compiled = permissions.map(permission => ({
    actions: anyOf(permission.actions),
    notActions: anyOf(permission.notActions),
    dataActions: anyOf(permission.dataActions),
    notDataActions: anyOf(permission.notDataActions),
  }));
  return {
    control: action => compiled.some(one => one.actions(action) && !one.notActions(action)),
    data: action => compiled.some(one => one.dataActions(action) && !one.notDataActions(action)),
    reads: permissions.some(({ actions }) => actions.some(pattern => /(^|\/)(\*|read)$/i.test(pattern))),
  };
}

/** More of them in one pattern are taken literally as "one segment or more": each doubles what has to be tried. */
const MOST_OPTIONAL = 3;

function anyOf(patterns: readonly string[]): ActionTest {
  const globs = patterns.flatMap(pattern => variants(pattern.toLowerCase(), MOST_OPTIONAL)).map(glob);
  return action => globs.some(matches => matches(action));
}

// `a/*/b` means `a/b`, too: Managed Identity Operator has `userAssignedIdentities/*/assign/action`, and that is how Azure lets it assign identities.
function variants(pattern: string, left: number, from = 0): string[] {
  const at = left > 0 ? pattern.indexOf('/*/', from) : -1;
  if (at === -1) return [pattern];
  const without = `${pattern.slice(0, at)}/${pattern.slice(at + 3)}`;
  return [...variants(pattern, left - 1, at + 2), ...variants(without, left - 1, at)];
}

/** `*` stands for any text. Each literal part is sought after the one before it, so that no pattern is slow. */
function glob(pattern: string): ActionTest {
  const parts = pattern.split('*');
  const first = parts[0]!;
  if (parts.length === 1) return action => action === first;
  const last = parts.at(-1)!;
  const middle = parts.slice(1, -1).filter(part => part !== '');
  return action => {
    if (!action.startsWith(first) || !action.endsWith(last)) return false;
    let at = first.length;
    const end = action.length - last.length;
    if (end < at) return false;
    for (const part of middle) {
      const found = action.indexOf(part, at);
      if (found === -1) return false;
      at = found + part.length;
    }
    return at <= end;
  };
}
