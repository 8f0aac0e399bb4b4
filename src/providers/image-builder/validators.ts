/** Tests that run in the finished guest, and what their failure means for the run. */
import { type Static, Type } from '@sinclair/typebox';
import type { JsonPath } from '../../arm/json-path.ts';
import { variants } from '../../arm/shape.ts';
import type { Rules } from './rules.ts';
import { checkFile, checkScript, fileProperties, powerShellProperties, scriptProperties } from './scripts.ts';

export const ValidatorSchema = variants('type', [
  Type.Object({ type: Type.Literal('Shell'), ...scriptProperties }, { title: 'ImageTemplateShellValidator' }),
  Type.Object(
    { type: Type.Literal('PowerShell'), ...powerShellProperties },
    { title: 'ImageTemplatePowerShellValidator' },
  ),
  Type.Object(
    { type: Type.Literal('File'), ...fileProperties },
    { title: 'ImageTemplateFileValidator', since: '2022-07-01' },
  ),
]);

export const ValidateSchema = Type.Object(
  {
    continueDistributeOnFailure: Type.Optional(Type.Boolean()),
    sourceValidationOnly: Type.Optional(Type.Boolean()),
    inVMValidations: Type.Optional(Type.Array(ValidatorSchema)),
  },
  { title: 'ImageTemplatePropertiesValidate', since: '2022-02-14' },
);

export type Validator = Static<typeof ValidatorSchema>;
export type ValidateSettings = Static<typeof ValidateSchema>;

export function checkValidators(settings: ValidateSettings, at: JsonPath, rules: Rules): void {
  settings.inVMValidations?.forEach((validator, index) => {
    if (validator === undefined) return;
    const here = [...at, 'inVMValidations', index];
    if (validator.type === 'File') checkFile(validator, here, rules);
    else checkScript(validator, here, rules);
  });
}
