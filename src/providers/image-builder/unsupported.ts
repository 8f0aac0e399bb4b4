/**
 * What is valid in a template but not built by this version of Kiln. Nothing that changes the result is skipped in silence: it is refused, or, where the
 * image comes out the same, a warning says that it has no effect.
 */
import { KilnError } from '../../arm/errors.ts';
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import { MOST_DATA_DISKS } from '../../builds/data-disks.ts';
import { sizeNames, sizeOf } from '../../machines/sizes.ts';
import type { ImageTemplate } from './normalise.ts';
import { optimization } from './optimization.ts';

export interface Unsupported {
  /** One error for each part that cannot be built; empty when the template can. */
  readonly refusals: readonly KilnError[];
  readonly warnings: readonly string[];
}

/** Azure's own limit (GiB). */
const LARGEST_DATA_DISK = 32_767;

const WINDOWS_STEPS = new Set(['PowerShell', 'WindowsRestart', 'WindowsUpdate']);

/** @param options.local a build of `kiln build`, which stages nothing and runs nothing by itself */
export function unsupported(template: ImageTemplate, { local }: { readonly local: boolean }): Unsupported {
  const { properties } = template;
  const refusals: KilnError[] = [];
  const warnings: string[] = [];
  const refuse = (path: JsonPath, sentence: string, hint: string): void =>
    void refusals.push(new KilnError('NotSupported', sentence, { target: formatPath(path), hint }));
  const warn = (path: JsonPath, sentence: string): void => void warnings.push(`${formatPath(path)} ${sentence}.`);
  const at = (...path: JsonPath): JsonPath => ['properties', ...path];

  if (properties.source.type === 'PlatformImage' && /^MicrosoftWindows/i.test(properties.source.publisher))
    refuse(at('source'), 'Windows images cannot be built by this version of Kiln.', 'Use a Linux source.');
  properties.customize.forEach((customizer, index) => {
    if (WINDOWS_STEPS.has(customizer.type))
      refuse(
        at('customize', index),
        `The customizer ${customizer.type}${customizer.name ? ` ("${customizer.name}")` : ''} is for Windows, which this version of Kiln cannot build.`,
        'Use Shell and File customizers.',
      );
  });
  const vmSize = properties.vmProfile?.vmSize ?? '';
  if (vmSize !== '' && !sizeOf(vmSize))
    refuse(
      at('vmProfile', 'vmSize'),
      `This version of Kiln does not know the size '${vmSize}'.`,
      `It knows, for example: ${nearestSizes(vmSize).join(', ')}.`,
    );
  properties.validate?.inVMValidations?.forEach((validator, index) => {
    if (WINDOWS_STEPS.has(validator.type))
      refuse(
        at('validate', 'inVMValidations', index),
        `The validator ${validator.type}${validator.name ? ` ("${validator.name}")` : ''} is for Windows, which this version of Kiln cannot build.`,
        'Use Shell and File validators.',
      );
  });
  const dataDisks = properties.additionalDataDisks ?? [];
  dataDisks.forEach(({ sizeGB = 0 }, index) => {
    if (sizeGB < 1 || sizeGB > LARGEST_DATA_DISK)
      refuse(
        at('additionalDataDisks', index, 'sizeGB'),
        `A data disk cannot have ${sizeGB} GB.`,
        `Say how large it is to be: from 1 to ${LARGEST_DATA_DISK} GB.`,
      );
  });
  if (dataDisks.length > MOST_DATA_DISKS)
    refuse(
      at('additionalDataDisks'),
      `A machine has at most ${MOST_DATA_DISKS} data disks, not ${dataDisks.length}.`,
      'Take fewer and larger ones.',
    );
  properties.distribute.forEach((distributor, index) => {
    if (distributor.type === 'VHD' && dataDisks.length > 0)
      warn(
        at('distribute', index),
        'publishes the disk of the system alone: a VHD is one disk. Data disks go into managed images and gallery versions',
      );
  });

  if (properties.validate?.sourceValidationOnly)
    warn(
      at('validate', 'sourceValidationOnly'),
      'is true: no image is built or distributed, only the source is validated',
    );
  if (optimization(properties)?.idle)
    warn(
      at('optimize'),
      'has no effect: no managed image or gallery version is made, and each block of a VHD has its one place in the file',
    );
  for (const field of ['onCustomizerError', 'onValidationError'] as const)
    if (local && properties.errorHandling?.[field] === 'abort')
      warn(at('errorHandling', field), 'is for runs of the API; here --on-error says what becomes of the machine');
  if (properties.vmProfile?.vnetConfig)
    warn(
      at('vmProfile', 'vnetConfig'),
      local
        ? "has no effect: the build's machine runs in an isolated network namespace and reaches out through this host"
        : "was checked, but nothing is put into the virtual network: the build's machine runs in an isolated network namespace and reaches out through this host",
    );
  if ((properties.vmProfile?.userAssignedIdentities ?? []).length > 0)
    warn(
      at('vmProfile', 'userAssignedIdentities'),
      'has no effect: a build machine has no identity endpoint, since nothing that it can reach takes the tokens of its identities',
    );
  if (local) {
    if (properties.stagingResourceGroup !== '')
      warn(at('stagingResourceGroup'), 'has no effect: this build is staged in the state directory');
    if (properties.autoRun?.state === 'Enabled') warn(at('autoRun'), 'has no effect: this is a build already');
    if (properties.managedResourceTags && Object.keys(properties.managedResourceTags).length > 0)
      warn(at('managedResourceTags'), 'has no effect: this build makes no staging resources');
  }
  return { refusals, warnings };
}

/** The sizes whose names begin most like the wanted one. */
export function nearestSizes(wanted: string): string[] {
  const text = wanted.toLowerCase();
  const common = (name: string) => {
    const other = name.toLowerCase();
    let length = 0;
    while (length < text.length && text[length] === other[length]) length++;
    return length;
  };
  return sizeNames()
    .map(name => ({ name, common: common(name) }))
    .sort((a, b) => b.common - a.common)
    .slice(0, 6)
    .map(({ name }) => name);
}

/** Throws all refusals as one error, in Resource Manager's form: the first is the message, all are details. */
export function refuseUnsupported(found: Unsupported): void {
  if (found.refusals.length === 0) return;
  const first = found.refusals[0]!;
  throw new KilnError('NotSupported', first.message, {
    ...(first.target !== undefined && { target: first.target }),
    ...(first.hint !== undefined && { hint: first.hint }),
    details: found.refusals,
  });
}
