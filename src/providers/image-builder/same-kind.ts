/** An image fits only into definitions of its own kind (contract 4.6): the system, generation and architecture of its source, and what the definition says of security. */
import { KilnError } from '../../arm/errors.ts';
import { isObject } from '../../arm/shape.ts';
import type { StoredResource } from '../store.ts';

export interface ImageKind {
  readonly osType: string;
  readonly hyperVGeneration: string;
  readonly architecture: 'x64' | 'Arm64';
  /** The definition's feature SecurityType, where the source is a version of one that has it. */
  readonly securityType?: string;
  /** The source is a version of an image definition: no security type means that nothing of the kind is in it. */
  readonly defined?: true;
}

/** What an image definition says, beside what every image has; `properties` as stored, or missing where the definition is not there. */
export function kindOf(properties: unknown): Pick<ImageKind, 'architecture' | 'securityType' | 'defined'> {
  if (!isObject(properties)) return { architecture: 'x64' };
  const { architecture, features } = properties;
  const feature = (Array.isArray(features) ? features : []).find(
    one => isObject(one) && String(one.name).toLowerCase() === 'securitytype',
  );
  const securityType = isObject(feature) ? String(feature.value) : undefined;
  return {
    architecture: String(architecture).toLowerCase() === 'arm64' ? 'Arm64' : 'x64',
    defined: true,
    ...(securityType !== undefined && { securityType }),
  };
}

/** Values of SecurityType that mean Secure Boot and a TPM: TrustedLaunch, ConfidentialVM, and those with Supported. */
export const isTrusted = (securityType: string | undefined): boolean =>
  securityType !== undefined && /^(trustedlaunch|confidentialvm)/i.test(securityType);

/**
 * Errors: ValidationFailed, with the distributor as target.
 * @param definitions by the index of their distributor
 */
export function requireSameKind(definitions: ReadonlyMap<number, StoredResource>, source: ImageKind): void {
  for (const [index, { id, properties }] of definitions) {
    const wanted = isObject(properties) ? properties : {};
    const refuse = (sentence: string, hint?: string): never => {
      const target = `properties.distribute[${index}].galleryImageId`;
      throw new KilnError('ValidationFailed', sentence, { target, ...(hint !== undefined && { hint }) });
    };
    for (const [field, fallback] of [
      ['osType', 'Linux'],
      ['hyperVGeneration', 'V1'],
      ['architecture', 'x64'],
    ] as const) {
      const defined = String(wanted[field] ?? fallback);
      if (defined.toLowerCase() !== source[field].toLowerCase())
        refuse(
          `The source image has the ${field} '${source[field]}', but the image definition ${id} is for '${defined}'.`,
        );
    }
    const { securityType = 'None' } = kindOf(properties);
    if (isTrusted(securityType) && source.hyperVGeneration !== 'V2')
      refuse(
        `The image definition ${id} has the security type '${securityType}', which only machines of generation V2 have; the source image is of generation '${source.hyperVGeneration}'.`,
      );
    // Of platform and managed images nobody says it.
    if (source.defined && isTrusted(source.securityType) !== isTrusted(securityType))
      refuse(
        `The source image has the security type '${source.securityType ?? 'None'}', but the image definition ${id} is for '${securityType}'.`,
        'Make an image definition whose feature SecurityType is that of the source.',
      );
  }
}
