/** The operation that makes a warm start: for somebody who asked (`kiln cache warm`), or for builds to come (warm-schedule.ts). */
import { join } from 'node:path';
import { openLayerStore } from '../../builds/layers/store.ts';
import { type WarmRequest, warm, warmKey } from '../../builds/warm.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import { machineSize } from './build-request.ts';
import type { ImageTemplate } from './normalise.ts';
import type { RunEnvironment } from './run.ts';
import { sourceOf, type TemplateSourceImage } from './source-image.ts';

export const WARM_KIND = 'Kiln.Builds/warmStarts/make';

/** How long one may take in the background or in front of somebody: a source may have to be downloaded first (s). */
export const WARM_SECONDS = 4 * 3600;

/** The part of a template that its boot follows from. */
export interface WarmInput {
  readonly template: Pick<ImageTemplate, 'id' | 'location'> & {
    readonly source: ImageTemplate['properties']['source'];
  };
  /** Of vmProfile; empty: the default of the source's generation. */
  readonly vmSize: string;
  readonly osDiskSizeGB: number;
  /** Sizes of additionalDataDisks (GiB), where there are any. */
  readonly dataDisks?: readonly number[];
  readonly catalogue?: string;
}

/** What the operation answers with. */
export interface WarmOutput {
  readonly key: string;
  readonly made: boolean;
}

export const warmInput = ({ id, location, properties }: ImageTemplate): WarmInput => ({
  template: { ...(id !== undefined && { id }), location, source: properties.source },
  vmSize: properties.vmProfile?.vmSize ?? '',
  osDiskSizeGB: properties.vmProfile?.osDiskSizeGB ?? 0,
  ...(properties.additionalDataDisks?.length && {
    dataDisks: properties.additionalDataDisks.map(({ sizeGB = 0 }) => sizeGB),
  }),
});

export type WarmPlace = Pick<RunEnvironment, 'database' | 'home' | 'machines'>;

/** Errors: SourceNotFound, SourceUnusable, ValidationFailed for a size that Kiln does not know. */
export async function warmRequest(
  { template: { source, ...place }, vmSize, osDiskSizeGB, dataDisks, catalogue }: WarmInput,
  environment: WarmPlace,
): Promise<Omit<WarmRequest, 'runId' | 'store' | 'source'> & { readonly source: TemplateSourceImage }> {
  const options = { ...environment, ...(catalogue !== undefined && { catalogue }) };
  const image = await sourceOf({ ...place, properties: { source } }, options);
  const { processors, memoryMiB } = machineSize(vmSize, image.hyperVGeneration);
  const { firmware } = image;
  const shape = await environment.machines.shape({ kind: 'qemu', processors, memoryMiB, firmware });
  return { source: image, shape, osDiskSizeGB, ...(dataDisks && { dataDisks }) };
}

/** The key of a warm start; undefined while its source is not on this host. Errors: as of {@link warmRequest}. */
export async function knownWarmKey(input: WarmInput, environment: WarmPlace): Promise<string | undefined> {
  const request = await warmRequest(input, environment);
  const image = await request.source.known();
  return image && warmKey(request, image);
}

export function warmHandler(environment: RunEnvironment): OperationHandler {
  const { home, machines } = environment;
  return {
    kind: WARM_KIND,
    heavy: true,
    async run({ id, signal }, input): Promise<WarmOutput> {
      const request = await warmRequest(input as WarmInput, environment);
      const listener = () => environment.listener(id);
      const { layer, made } = await warm(
        { ...request, runId: id, store: await openLayerStore(home.cache) },
        {
          directory: join(home.runs, id),
          machines,
          onPhase: (index, phases) => listener()?.phase(index, phases),
          onLine: line => listener()?.line(line),
          onProgress: progress => listener()?.progress(progress),
          signal,
        },
      );
      return { key: layer.key, made };
    },
  };
}
