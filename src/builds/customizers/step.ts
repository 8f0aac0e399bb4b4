/** What customizers and validators share: their place in the template, the files they were given, and how a failure is told. */
import { stripVTControlCharacters } from 'node:util';
import { KilnError } from '../../arm/errors.ts';
import type { MachineKind } from '../../machines/machine.ts';
import type { Phase } from '../phase.ts';
import type { Redactor } from '../redact.ts';

/** Where in the template a step is: a customizer of `customize`, the one workload of `optimize`, or a validator of `validate.inVMValidations`. */
export type StepRole = 'customize' | 'optimize' | 'validate';

const ROLES = Object.freeze({
  customize: { word: 'Step', path: 'properties.customize', subState: 'Customizing' },
  optimize: { word: 'The workload', path: 'properties.optimize.workload', subState: 'Optimizing' },
  validate: { word: 'Validator', path: 'properties.validate.inVMValidations', subState: 'Validating' },
} as const satisfies Record<StepRole, { word: string; path: string; subState: Phase['subState'] }>);

/** A step's place: what errors and logs call it. */
export interface StepPlace {
  readonly role: StepRole;
  /** From 1, as people count. */
  readonly number: number;
  readonly count: number;
  readonly type: string;
  readonly name: string;
  /** Default: the build ends. */
  readonly onFailure?: Phase['onFailure'];
}

/** A script or file of a template as it was when the template was made: content-addressed, on local disk. */
export interface StoredFile {
  /** Lower-case hex; the file's name in the store. */
  readonly sha256: string;
  readonly path: string;
  readonly size: number;
  /** Where it came from, without secrets; for people. */
  readonly uri: string;
}

export function describe(place: StepPlace): string {
  return `${place.number}/${place.count} ${place.type}${place.name ? ` "${place.name}"` : ''}`;
}

/** `Step 2/5 Shell "install"`; for sentences. */
export const titleOf = (place: StepPlace): string =>
  place.role === 'optimize' ? ROLES.optimize.word : `${ROLES[place.role].word} ${describe(place)}`;

/** JSON path of the step in its template. */
export const pathOf = ({ role, number }: StepPlace): string =>
  role === 'optimize' ? ROLES.optimize.path : `${ROLES[role].path}[${number - 1}]`;

/** What every step's phase has. */
export function phaseOf(place: StepPlace): Pick<Phase, 'kind' | 'name' | 'subState' | 'onFailure'> {
  const { role, onFailure } = place;
  return {
    kind: role,
    name: describe(place),
    subState: ROLES[role].subState,
    ...(onFailure !== undefined && { onFailure }),
  };
}

const TAIL_CHARACTERS = 16 * 1024;

/** The last lines that a command printed, for its error; without the run's secrets, also where only the end of one is left. */
export function tail(redact: Redactor, limit = 20): { push(chunk: Buffer): void; lines(): string[] } {
  // A part of a secret, and of a control sequence before it.
  const torn = redact.longest === 0 ? 0 : redact.longest + 64;
  const room = TAIL_CHARACTERS + torn;
  let kept = '';
  return {
    push(chunk) {
      kept = (kept + chunk.toString('utf8')).slice(-room);
    },
    lines: () =>
      redact(stripVTControlCharacters(kept))
        .slice(kept.length === room ? torn : 0)
        .split(/\r?\n|\r/)
        .map(line => line.trimEnd())
        .filter(line => line !== '')
        .slice(-limit),
  };
}

/**
 * The error of a step whose command ended badly: which step, exit code, last lines, and what usually helps.
 * @param status what the guest reported: an exit code, or the signal that ended the command
 * @param machine what it ran in
 */
export function stepFailed(
  place: StepPlace,
  status: number | string,
  lines: readonly string[],
  machine: MachineKind = 'qemu',
): KilnError {
  const how = typeof status === 'number' ? `exit code ${status}` : `signal ${status}`;
  const said =
    lines.length > 0 ? ` Last lines:\n${lines.map(line => `    ${line}`).join('\n')}` : ' It printed nothing.';
  const hint = hintFor(status, lines.join('\n'), machine);
  return new KilnError('StepFailed', `${titleOf(place)} failed with ${how}.${said}`, {
    target: pathOf(place),
    ...(hint !== undefined && { hint }),
  });
}

const HINTS: readonly [RegExp, string][] = [
  [
    /(bad interpreter|\^M|\$'\\r')/,
    'The script has Windows line endings or names an interpreter that the image lacks.',
  ],
  [
    /Do you want to continue\?.*Abort|Abort\.$/ms,
    'Nobody is there to answer: add -y to apt-get, or set DEBIAN_FRONTEND=noninteractive.',
  ],
  [
    /Is this ok \[y\/N\]:|Continue\? \[y\/n/,
    'Nobody is there to answer: add -y to dnf and yum, --non-interactive to zypper.',
  ],
  [
    /This system is not registered|no enabled repo|There are no enabled repositories/i,
    'The image has no package repository: register the system, or add one, in an earlier step; undo a registration in the last one.',
  ],
  [
    /Unable to locate package|has no installation candidate/,
    'Run `sudo apt-get update` in an earlier line: package lists may be old or absent.',
  ],
  [
    /(are you root\?|Permission denied|Operation not permitted|must be (run as )?root)/i,
    'Steps run as an ordinary user with passwordless sudo: prefix the command with sudo.',
  ],
  [
    /(Temporary failure (in name )?resolv|Could not resolve|Network is unreachable|Connection timed out)/i,
    'The guest has no way to that address: check name resolution and the network of the host.',
  ],
  [/No space left on device/, 'The disk of the image is full: raise vmProfile.osDiskSizeGB.'],
  [
    /Could not get lock|can't create transaction lock|System management is locked by/,
    'Another package manager holds the lock: wait for it in the script (apt-get -o DPkg::Lock::Timeout=300; ZYPP_LOCK_TIMEOUT=300 for zypper; dnf waits by itself).',
  ],
];

/** What fails in a container because no kernel and no services of the image run in it. */
const NEEDS_MACHINE =
  /not been booted with systemd|Failed to connect to (system )?bus|modprobe: FATAL|insmod: ERROR|sysctl: (permission denied|setting key)|\/proc\/sys\/.*Read-only file system|Failed to connect to .*(dbus|docker\.sock)|(swapon|losetup|mount): .*(permission denied|Operation not permitted|No such device)/i;

function hintFor(status: number | string, text: string, machine: MachineKind): string | undefined {
  if (machine === 'container' && NEEDS_MACHINE.test(text))
    return 'The step ran in a container, where no kernel and no services of the image run. What needs them is built in a virtual machine (--machine vm, or the tag kiln.machine = vm); a service starts at the next boot if it is enabled (systemctl enable).';
  const found = HINTS.find(([pattern]) => pattern.test(text))?.[1];
  if (found !== undefined) return found;
  if (status === 127) return 'A command was not found: is its package installed by an earlier step?';
  if (status === 126) return 'The script could not be executed: check its first line.';
  if (status === 'KILL' || status === 137)
    return 'The kernel or somebody killed it; with little memory that is the out-of-memory killer: choose a larger vmSize.';
  return undefined;
}
