/** `properties.optimize`: what makes the first boot of an image, or a workload in it, begin sooner. */
import type { JsonPath } from '../../arm/json-path.ts';
import type { ImageTemplateProperties } from './normalise.ts';
import { checkUrl, type Rules } from './rules.ts';

type Workload = NonNullable<NonNullable<ImageTemplateProperties['optimize']>['workload']>;

export interface Optimization {
  /** Missing: a boot alone is what counts. */
  readonly workload?: Workload & { readonly scriptUri: string };
  /** Nothing is published that could be laid out. */
  readonly idle: boolean;
}

/** Undefined when the template does not ask for it. A workload counts from the start of its machine on, so both parts together are the same as the workload alone. */
export function optimization({
  optimize,
  validate,
  distribute,
}: Pick<ImageTemplateProperties, 'optimize' | 'validate' | 'distribute'>): Optimization | undefined {
  if (validate?.sourceValidationOnly) return undefined;
  const { vmBoot, workload } = optimize ?? {};
  const scriptUri = workload?.state === 'Enabled' ? workload.scriptUri : undefined;
  if (!scriptUri && vmBoot?.state !== 'Enabled') return undefined;
  const idle = distribute.every(({ type }) => type === 'VHD');
  return { idle, ...(scriptUri && { workload: { ...workload, scriptUri } }) };
}

export function checkWorkload({ state, scriptUri }: Workload, at: JsonPath, rules: Rules): void {
  if (scriptUri) checkUrl(rules, [...at, 'scriptUri'], scriptUri);
  else if (state === 'Enabled')
    rules.rule(at, ['scriptUri'], "'scriptUri' must be specified when 'state' is 'Enabled'.");
}
