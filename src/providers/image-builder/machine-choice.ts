/** What kind of machine a build runs in: the operator's rule, the template's tag, or who builds at this host. */
import { KilnError } from '../../arm/errors.ts';
import type { MachineKind } from '../../machines/machine.ts';
import type { ImageTemplate } from './normalise.ts';

/** `kiln.machine` = `vm` or `container`. */
export const MACHINE_TAG = 'kiln.machine';

/** The words for people, and what they mean. */
export const MACHINES: Readonly<Record<string, MachineKind>> = Object.freeze({ vm: 'qemu', container: 'container' });

/**
 * `vm`: always a virtual machine. `container`: a container unless the template says `vm`. `template`: what the template says, a virtual machine where it says
 * nothing. A container shares the host's kernel, so callers of an API get one only where the operator said so.
 */
export const MACHINE_POLICIES = Object.freeze(['vm', 'container', 'template'] as const);
export type MachinePolicy = (typeof MACHINE_POLICIES)[number];

export interface MachineChoice {
  /** What was asked for with this one build; wins. */
  readonly asked?: MachineKind | undefined;
  readonly policy: MachinePolicy;
  /** Who builds at this host, not a caller of the API; for the words of the refusal. */
  readonly local?: boolean;
}

/**
 * What `--machine` of a build at this host means: `vm`, `container`, or `template`, what the template's tag says. Without it a template's wish for a container is
 * refused: its author does not decide whether its scripts run on this host's kernel. Errors: as of {@link chosenMachine}.
 */
export function machineAskedFor(template: Pick<ImageTemplate, 'tags'>, word: string | undefined): MachineKind {
  return chosenMachine(template, {
    asked: word === undefined ? undefined : MACHINES[word],
    policy: word === 'template' ? 'template' : 'vm',
    local: true,
  });
}

/** Errors: ValidationFailed for a word that means nothing; NotSupported for a container where nobody who may said so. */
export function chosenMachine(
  { tags }: Pick<ImageTemplate, 'tags'>,
  { asked, policy, local = false }: MachineChoice,
): MachineKind {
  if (asked !== undefined) return asked;
  const word = tags[MACHINE_TAG]?.toLowerCase();
  if (word === undefined) return policy === 'container' ? 'container' : 'qemu';
  const tagged = new Map(Object.entries(MACHINES)).get(word);
  const target = `tags['${MACHINE_TAG}']`;
  if (tagged === undefined)
    throw new KilnError(
      'ValidationFailed',
      `The tag ${MACHINE_TAG} is '${tags[MACHINE_TAG]}'; it can be vm or container.`,
      {
        target,
      },
    );
  if (tagged === 'container' && policy === 'vm') throw refusal(target, local);
  return tagged;
}

function refusal(target: string, local: boolean): KilnError {
  const why = 'A container shares the kernel of the host, so its steps are not held as a virtual machine holds them.';
  return local
    ? new KilnError('NotSupported', 'The template asks to be built in a container, which you have not allowed.', {
        target,
        hint: `${why} If you vouch for this template: --machine container. Else: --machine vm.`,
      })
    : new KilnError('NotSupported', 'The template asks to be built in a container, which this server does not offer.', {
        target,
        hint: `${why} Whoever vouches for all templates of this server can start it with \`kiln serve --machine template\`; else remove the tag.`,
      });
}
