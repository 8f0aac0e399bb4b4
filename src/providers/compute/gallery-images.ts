/** Microsoft.Compute/galleries/images: an image definition, what all its versions have in common (contract 2.3). */
import { Type } from '@sinclair/typebox';
import type { ResourceType, ValidationContext, Violation } from '../../arm/resource-type.ts';
import { isObject, oneOf } from '../../arm/shape.ts';
import type { ResourceProvider } from '../provider.ts';
import { immutable, readTracked } from '../tracked.ts';
import { GALLERY_API_VERSIONS } from './api-versions.ts';
import { capsLife } from './caps-life.ts';

const word = Type.String();
const range = Type.Object({ min: Type.Optional(Type.Integer()), max: Type.Optional(Type.Integer()) });

const DefinitionSchema = Type.Object({
  osType: oneOf(['Windows', 'Linux']),
  osState: oneOf(['Generalized', 'Specialized']),
  identifier: Type.Object({ publisher: word, offer: word, sku: word }),
  hyperVGeneration: Type.Optional(oneOf(['V1', 'V2'])),
  architecture: Type.Optional(oneOf(['x64', 'Arm64'])),
  features: Type.Optional(Type.Array(Type.Object({ name: word, value: word, startsAtVersion: Type.Optional(word) }))),
  recommended: Type.Optional(Type.Object({ vCPUs: Type.Optional(range), memory: Type.Optional(range) })),
  disallowed: Type.Optional(Type.Object({ diskTypes: Type.Optional(Type.Array(word)) })),
  purchasePlan: Type.Optional(
    Type.Object({ name: Type.Optional(word), publisher: Type.Optional(word), product: Type.Optional(word) }),
  ),
  description: Type.Optional(word),
  eula: Type.Optional(word),
  privacyStatementUri: Type.Optional(word),
  releaseNoteUri: Type.Optional(word),
  endOfLifeDate: Type.Optional(word),
  provisioningState: Type.Optional(Type.Unknown({ readOnly: true })),
});

export const galleryImages: ResourceType = Object.freeze({
  type: 'Microsoft.Compute/galleries/images',
  apiVersions: GALLERY_API_VERSIONS,
  kind: 'tracked',
  parent: 'Microsoft.Compute/galleries',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidParameter',
  checkName(name) {
    const rule = '^[^_\\W][\\w-._]{0,79}(?<![-.])$';
    if (/^[^_\W][\w\-.]{0,79}(?<![-.])$/.test(name)) return undefined;
    return {
      path: 'galleryImageName',
      message: `The entity name '${name}' is invalid according to its validation rule: ${rule}.`,
    };
  },
  validate(body, context) {
    const read = readTracked(body, DefinitionSchema, 'galleryImage', context);
    const before = context.existing?.properties;
    const properties = {
      hyperVGeneration: before?.hyperVGeneration ?? 'V1',
      architecture: before?.architecture ?? 'x64',
      ...read.properties,
      provisioningState: 'Succeeded',
    };
    const violations = [
      ...read.violations,
      ...identifierViolations(read.properties.identifier, context),
      ...featureViolations(read.properties.features),
      ...endOfLife(read.properties.endOfLifeDate, 'properties.endOfLifeDate', context.now),
      ...immutable(properties, context.existing?.properties, 'galleryImage', [
        ['osType'],
        ['osState'],
        ['hyperVGeneration'],
        ['identifier', 'publisher'],
        ['identifier', 'offer'],
        ['identifier', 'sku'],
      ]),
    ];
    return { resource: { location: read.location, tags: read.tags, properties }, violations, warnings: read.warnings };
  },
} satisfies ResourceType);

export const galleryImagesProvider: ResourceProvider = Object.freeze({
  definition: galleryImages,
  ...capsLife(galleryImages),
});

/** The values that a feature has; those of other features are their owners'. */
const FEATURES: Readonly<Record<string, readonly string[]>> = Object.freeze({
  securitytype: [
    ...['None', 'Standard', 'TrustedLaunch', 'TrustedLaunchSupported', 'ConfidentialVM', 'ConfidentialVMSupported'],
    'TrustedLaunchAndConfidentialVmSupported',
  ],
  isacceleratednetworksupported: ['True', 'False'],
  ishibernatesupported: ['True', 'False'],
});

function featureViolations(features: readonly { name: string; value: string }[] | undefined): Violation[] {
  return (Array.isArray(features) ? features : []).flatMap(({ name, value }, index) => {
    const values = FEATURES[String(name).toLowerCase()];
    if (!values || values.some(one => one.toLowerCase() === String(value).toLowerCase())) return [];
    const path = `properties.features[${index}].value`;
    return [
      {
        path,
        message: `The value of parameter galleryImage.${path} is invalid.`,
        hint: `${name} is one of ${values.join(', ')}.`,
      },
    ];
  });
}

const IDENTIFIER_LIMITS = { publisher: 128, offer: 64, sku: 64 } as const;

interface Identifier {
  readonly publisher: string;
  readonly offer: string;
  readonly sku: string;
}

/** Missing when the identifier was malformed. */
function identifierViolations(identifier: Identifier | undefined, context: ValidationContext): Violation[] {
  if (!isObject(identifier)) return [];
  const violations: Violation[] = [];
  for (const [part, limit] of Object.entries(IDENTIFIER_LIMITS)) {
    const value: unknown = identifier[part];
    if (typeof value === 'string' && (!/^[A-Za-z0-9\-._]+(?<!\.)$/.test(value) || value.length > limit))
      violations.push({
        path: `properties.identifier.${part}`,
        message: `Asset name galleryImage.properties.identifier.${part} is not valid. It cannot be empty. Allowed characters are uppercase or lowercase letters, digits, hyphen(-), period (.), underscore (_). Names are not allowed to end with period(.). The length of the name cannot exceed ${limit} characters.`,
      });
  }
  const key = (one: Identifier): string => JSON.stringify([one.publisher, one.offer, one.sku]).toLowerCase();
  const twin = context.siblings.find(
    one => key(one.properties.identifier as Identifier) === key(identifier as unknown as Identifier),
  );
  if (twin && violations.length === 0)
    violations.push({
      path: 'properties.identifier',
      message: `Gallery image: ${twin.name} identified by (publisher:${identifier.publisher}, offer:${identifier.offer}, sku:${identifier.sku}) already exists. Choose a different publisher, offer, sku combination.`,
      code: 'Conflict',
    });
  return violations;
}

export function endOfLife(date: string | undefined, path: string, now: Date): Violation[] {
  if (date === undefined || Date.parse(date) > now.getTime()) return [];
  return [{ path, message: 'EndOfLifeDate must be set to a future date.' }];
}
