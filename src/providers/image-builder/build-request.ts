/** From a stored template to what a build is asked to do. */

import { stat } from 'node:fs/promises';
import { asKilnError, errorBody, KilnError } from '../../arm/errors.ts';
import { publicMessage } from '../../arm/public-error.ts';
import type { BuildRequest } from '../../builds/build.ts';
import { filePhase } from '../../builds/customizers/file.ts';
import { shellPhase } from '../../builds/customizers/shell.ts';
import { pathOf, type StepPlace, type StepRole, type StoredFile, titleOf } from '../../builds/customizers/step.ts';
import type { Target } from '../../builds/distributors/distribute.ts';
import type { Phase } from '../../builds/phase.ts';
import type { Outward } from '../../images/upload/remote-blob.ts';
import { noDataDisks } from '../../machines/container/factory.ts';
import type { MachineKind } from '../../machines/machine.ts';
import { type CappedSize, capped, sizeOf } from '../../machines/sizes.ts';
import { getResource, type StoredResource } from '../store.ts';
import type { Customizer } from './customizers.ts';
import { parseGalleryImageId } from './distributors.ts';
import { definitionsOf } from './gallery-version.ts';
import { templateOf } from './image-templates.ts';
import { actingIdentity } from './links.ts';
import { chosenMachine } from './machine-choice.ts';
import type { ImageTemplate } from './normalise.ts';
import { optimization } from './optimization.ts';
import { preparedFile, shownUrl } from './prepare.ts';
import type { Retry } from './retry.ts';
import type { RunEnvironment } from './run.ts';
import { kindOf, requireSameKind } from './same-kind.ts';
import { openTemplate } from './sealed-urls.ts';
import { secretsOf } from './secrets.ts';
import { sourceOf } from './source-image.ts';
import { type CacheWish, stepCache } from './step-cache.ts';
import { distributionTargets } from './targets.ts';
import { trustedLaunch } from './trusted-launch.ts';
import { nearestSizes, refuseUnsupported, unsupported } from './unsupported.ts';
import type { Validator } from './validators.ts';

/** The tag with which a template turns the boot proof off: `kiln.bootProof` = `off`. */
export const BOOT_PROOF_TAG = 'kiln.bootProof';

export interface BuildChoices {
  readonly catalogue: string | undefined;
  /** Who builds at this host, not a caller of the API. */
  readonly local: boolean;
  /** Asked for with this one run. */
  readonly machine?: MachineKind | undefined;
  readonly cache?: CacheWish | undefined;
  /** Only looked at: places that are not there yet are no error. */
  readonly planned?: boolean;
  /** Distributes the image of an earlier run to the targets that do not have it. */
  readonly retry?: Retry | undefined;
  readonly signal?: AbortSignal;
}

export async function buildRequest(
  resource: StoredResource,
  runId: string,
  environment: Omit<RunEnvironment, 'listener' | 'log'>,
  { catalogue, local, machine, cache: wish, planned = false, retry, signal }: BuildChoices,
): Promise<BuildRequest> {
  const template = pinned(templateOf(await openTemplate(resource, environment.home)), retry);
  const parts = unsupported(template, { local });
  refuseUnsupported(parts);
  const policy = local ? 'vm' : (environment.options?.machines ?? 'vm');
  const kind = chosenMachine(template, { asked: machine, policy, local });
  const { vmProfile, customize, validate } = template.properties;
  const dataDisks = (template.properties.additionalDataDisks ?? []).map(({ sizeGB = 0 }) => sizeGB);
  if (kind === 'container' && dataDisks.length > 0) throw noDataDisks('The template has additionalDataDisks');
  const sourceOnly = validate?.sourceValidationOnly ?? false;
  const source = await sourceOf(template, { ...environment, ...(catalogue !== undefined && { catalogue }) });
  const { sentence, ...size } = machineSize(vmProfile?.vmSize ?? '', source.hyperVGeneration);
  const securityTypes = await securityTypesOf(template, environment.database);
  const { firmware } = source;
  const { machines } = environment;
  const { trusted, sentence: untrusted } = await trustedLaunch({ securityTypes, firmware, kind, machines });
  const notes: string[] = untrusted === undefined ? [] : [untrusted];
  const report = (line: string) => void notes.push(line);
  const cache = await stepCache(resource, runId, environment, { wish, local, retry, report });
  const outward = () => outwardOf(template, environment, local);
  const distribute = distributionTargets({ templateId: resource.id, template, runId, ...environment, outward });
  // A retry builds nothing in vain: what a target says is its own phase's end.
  if (!sourceOnly && !planned && !retry) {
    const refusing = await refusingTargets(distribute, signal);
    for (const { label, reason } of refusing.values())
      report(
        `${label}: ${reason} The other targets get their image all the same; this one is tried when the image is made.`,
      );
    // The newest version of a source, and a target that was changed, may be of another kind than those that were looked at when the template was made.
    const definitions = await definitionsOf(environment.database, template.properties.distribute, refusing);
    if (!source.replaced) requireSameKind(definitions, source);
  }
  return {
    runId,
    templateId: resource.id,
    source,
    shape: await machines.shape({ ...size, kind, firmware, ...(trusted && { trusted }) }),
    osDiskSizeGB: vmProfile?.osDiskSizeGB ?? 0,
    dataDisks,
    customize: await phasesOf('customize', customize, environment),
    validate: {
      validators: await phasesOf('validate', validate?.inVMValidations ?? [], environment),
      continueDistributeOnFailure: validate?.continueDistributeOnFailure ?? false,
      sourceOnly,
    },
    ...(await optimizationOf(template, environment)),
    bootProof: template.tags[BOOT_PROOF_TAG]?.toLowerCase() !== 'off',
    distribute,
    secrets: secretsOf(template.properties),
    ...(retry && { published: retry.published }),
    ...(cache && { cache }),
    notes: [
      ...(retry ? [`Nothing is built: the image of run ${retry.runId} goes to the targets that lack it.`] : []),
      ...parts.warnings,
      ...(sentence === undefined ? [] : [sentence]),
      ...notes,
    ],
  };
}

/**
 * Targets that would not take an image now, by their indexes: no reason not to build for the others. Errors: the first reason, where there are no others: no hour of
 * work for nothing.
 */
async function refusingTargets(
  targets: readonly Target[],
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<number, { readonly label: string; readonly reason: string }>> {
  const checks = await Promise.allSettled(targets.map(async target => await target.check?.(signal)));
  signal?.throwIfAborted();
  const refused = checks.flatMap((check, index) =>
    check.status === 'rejected' ? [{ index, error: check.reason }] : [],
  );
  if (refused.length > 0 && refused.length === targets.length) throw refused[0]!.error;
  return new Map(
    refused.map(({ index, error }) => [
      index,
      { label: targets[index]!.label, reason: publicMessage(errorBody(asKilnError(error))) },
    ]),
  );
}

async function securityTypesOf(template: ImageTemplate, database: RunEnvironment['database']): Promise<string[]> {
  const types: string[] = [];
  for (const distributor of template.properties.distribute) {
    if (distributor.type !== 'SharedImage') continue;
    const { definitionId } = parseGalleryImageId(distributor.galleryImageId)!;
    const { securityType } = kindOf((await getResource(database, definitionId))?.properties);
    if (securityType !== undefined) types.push(securityType);
  }
  return types;
}

/** A retry is of the image that was built, whatever the newest source is now. */
function pinned(template: ImageTemplate, retry: Retry | undefined): ImageTemplate {
  if (!retry) return template;
  const { properties } = template;
  return { ...template, properties: { ...properties, source: retry.source(properties.source) } };
}

/** Uploads follow the rules of downloads; to the server's own accounts they go in the name of the template's identity. */
async function outwardOf(
  { identity }: Pick<ImageTemplate, 'identity'>,
  { database, doorway, options }: Pick<RunEnvironment, 'database' | 'doorway' | 'options'>,
  local: boolean,
): Promise<Outward> {
  const own = doorway?.door;
  const acting = own && !local ? await actingIdentity(database, identity) : undefined;
  return { allowLocal: local || (options?.localDownloads ?? false), own, as: acting?.principalId };
}

async function optimizationOf(
  { properties }: ImageTemplate,
  { home }: Pick<RunEnvironment, 'home'>,
): Promise<Pick<BuildRequest, 'optimize'>> {
  const wish = optimization(properties);
  if (!wish || wish.idle) return {};
  if (!wish.workload) return { optimize: {} };
  const { scriptUri, sha256Checksum } = wish.workload;
  const file = await storedFile(home.files, scriptUri, sha256Checksum!);
  const place = { role: 'optimize', number: 1, count: 1, type: 'Shell', name: '' } as const;
  return { optimize: { workload: shellPhase(place, { file }) } };
}

/** Errors: ValidationFailed. */
export function machineSize(vmSize: string, generation: 'V1' | 'V2'): CappedSize {
  const size = sizeOf(vmSize, generation);
  if (size) return capped(size);
  throw new KilnError('ValidationFailed', `Kiln does not know the VM size '${vmSize}'.`, {
    target: 'properties.vmProfile.vmSize',
    hint: `It knows, for example: ${nearestSizes(vmSize).join(', ')}.`,
  });
}

async function phasesOf(
  role: StepRole,
  steps: readonly (Customizer | Validator)[],
  environment: Pick<RunEnvironment, 'home'>,
): Promise<Phase[]> {
  return await Promise.all(
    steps.map((step, index) => {
      const { type, name = '' } = step;
      return phaseOf(step, { role, number: index + 1, count: steps.length, type, name }, environment);
    }),
  );
}

async function phaseOf(
  step: Customizer | Validator,
  place: StepPlace,
  { home }: Pick<RunEnvironment, 'home'>,
): Promise<Phase> {
  switch (step.type) {
    case 'Shell':
      return shellPhase(
        place,
        step.scriptUri
          ? { file: await storedFile(home.files, step.scriptUri, step.sha256Checksum!) }
          : { inline: step.inline! },
      );
    case 'File':
      return filePhase(place, await storedFile(home.files, step.sourceUri, step.sha256Checksum!), step.destination);
    default:
      throw new KilnError(
        'NotSupported',
        `${titleOf(place)} is for Windows, which this version of Kiln cannot build.`,
        { target: pathOf(place) },
      );
  }
}

async function storedFile(files: string, uri: string, sha256: string): Promise<StoredFile> {
  const path = preparedFile(files, sha256);
  const { size } = await stat(path).catch(() => {
    throw new KilnError('Conflict', `${shownUrl(uri)} was fetched when the template was made, but its copy is gone.`, {
      target: path,
      hint: 'Make the template again: `kiln build` does.',
    });
  });
  return { sha256, path, size, uri: shownUrl(uri) };
}
