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
}

/** Errors: ValidationFailed for a word that means nothing; NotSupported for a container where the operator offers none. */
export function chosenMachine({ tags }: Pick<ImageTemplate, 'tags'>, { asked, policy }: MachineChoice): MachineKind {
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
  if (tagged === 'container' && policy === 'vm')
    throw new KilnError(
      'NotSupported',
      'The template asks to be built in a container, which this server does not offer.',
      {
        target,
        hint: 'A container shares the kernel of the host. Whoever vouches for all templates of this server can start it with `kiln serve --machine template`; else remove the tag.',
      },
    );
  return tagged;
}
