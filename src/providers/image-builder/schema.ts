/**
 * The whole of an image template, as of the newest api-version; `since` says what came later than the oldest (contract 1.3, from the OpenAPI files).
 * The parts have files of their own.
 */
import { type Static, Type } from '@sinclair/typebox';
import { int32, oneOf, stringMap } from '../../arm/shape.ts';
import { CustomizerSchema } from './customizers.ts';
import { DistributorSchema } from './distributors.ts';
import { VmProfileSchema } from './profile.ts';
import { CHECKSUM } from './rules.ts';
import { SourceSchema } from './source.ts';
import { ValidateSchema } from './validators.ts';

const enabled = oneOf(['Enabled', 'Disabled']);
const onError = oneOf(['cleanup', 'abort']);
const readOnly = (since?: string) =>
  Type.Optional(Type.Unknown({ readOnly: true, ...(since !== undefined && { since }) }));

export const OptimizeSchema = Type.Object(
  {
    vmBoot: Type.Optional(
      Type.Object({ state: Type.Optional(enabled) }, { title: 'ImageTemplatePropertiesOptimizeVmBoot' }),
    ),
    workload: Type.Optional(
      Type.Object(
        {
          state: Type.Optional(enabled),
          scriptUri: Type.Optional(Type.String()),
          sha256Checksum: Type.Optional(Type.String(CHECKSUM)),
        },
        { title: 'ImageTemplatePropertiesOptimizeWorkload', since: '2025-10-01' },
      ),
    ),
  },
  { title: 'ImageTemplatePropertiesOptimize', since: '2022-07-01' },
);

export const PropertiesSchema = Type.Object(
  {
    source: SourceSchema,
    customize: Type.Optional(Type.Array(CustomizerSchema)),
    optimize: Type.Optional(OptimizeSchema),
    validate: Type.Optional(ValidateSchema),
    distribute: Type.Array(DistributorSchema, { minItems: 1 }),
    errorHandling: Type.Optional(
      Type.Object(
        { onCustomizerError: Type.Optional(onError), onValidationError: Type.Optional(onError) },
        { title: 'ImageTemplatePropertiesErrorHandling', since: '2023-07-01' },
      ),
    ),
    provisioningState: readOnly(),
    provisioningError: readOnly(),
    lastRunStatus: readOnly(),
    buildTimeoutInMinutes: Type.Optional(int32({ minimum: 0, maximum: 960 })),
    vmProfile: Type.Optional(VmProfileSchema),
    additionalDataDisks: Type.Optional(
      Type.Array(Type.Object({ sizeGB: Type.Optional(int32({ minimum: 0 })) }, { title: 'DataDisk' }), {
        since: '2025-10-01',
      }),
    ),
    stagingResourceGroup: Type.Optional(Type.String({ since: '2022-02-14' })),
    exactStagingResourceGroup: readOnly('2022-02-14'),
    autoRun: Type.Optional(
      Type.Object({ state: Type.Optional(enabled) }, { title: 'ImageTemplateAutoRun', since: '2024-02-01' }),
    ),
    managedResourceTags: Type.Optional(stringMap({ since: '2024-02-01' })),
  },
  { title: 'ImageTemplateProperties' },
);

export const IdentitySchema = Type.Object(
  {
    type: oneOf(['UserAssigned', 'None']),
    userAssignedIdentities: Type.Optional(
      Type.Record(
        Type.String(),
        Type.Object(
          {
            principalId: Type.Optional(Type.Unknown({ readOnly: true })),
            clientId: Type.Optional(Type.Unknown({ readOnly: true })),
          },
          { title: 'UserAssignedIdentity' },
        ),
      ),
    ),
  },
  { title: 'ImageTemplateIdentity' },
);

/** The body of a PUT. What Resource Manager itself reads or ignores (name, type, apiVersion, dependsOn …) is dropped like read-only properties. */
export const TemplateSchema = Type.Object(
  {
    location: Type.Optional(Type.String()),
    tags: Type.Optional(stringMap()),
    identity: Type.Optional(IdentitySchema),
    properties: PropertiesSchema,
    ...Object.fromEntries(
      ['id', 'name', 'type', 'apiVersion', 'dependsOn', 'comments', 'systemData'].map(name => [name, readOnly()]),
    ),
  },
  { title: 'ImageTemplate' },
);

export type TemplateProperties = Static<typeof PropertiesSchema>;
export type TemplateIdentity = Static<typeof IdentitySchema>;
