/** The steps of a template, in order. */
import { type Static, Type } from '@sinclair/typebox';
import type { JsonPath } from '../../arm/json-path.ts';
import { int32, variants } from '../../arm/shape.ts';
import type { Rules } from './rules.ts';
import { checkFile, checkScript, fileProperties, powerShellProperties, scriptProperties } from './scripts.ts';

const name = Type.Optional(Type.String());

export const ShellCustomizerSchema = Type.Object(
  { type: Type.Literal('Shell'), ...scriptProperties },
  { title: 'ImageTemplateShellCustomizer' },
);
export const PowerShellCustomizerSchema = Type.Object(
  { type: Type.Literal('PowerShell'), ...powerShellProperties },
  { title: 'ImageTemplatePowerShellCustomizer' },
);
export const FileCustomizerSchema = Type.Object(
  { type: Type.Literal('File'), ...fileProperties },
  { title: 'ImageTemplateFileCustomizer' },
);
export const WindowsRestartCustomizerSchema = Type.Object(
  {
    type: Type.Literal('WindowsRestart'),
    name,
    restartCommand: Type.Optional(Type.String()),
    restartCheckCommand: Type.Optional(Type.String()),
    restartTimeout: Type.Optional(
      Type.String({
        pattern: '^$|^(\\d+(\\.\\d+)?(ns|us|µs|ms|s|m|h))+$',
        reason: "It must be a magnitude and a unit, such as '5m' or '2h'.",
      }),
    ),
  },
  { title: 'ImageTemplateRestartCustomizer' },
);
export const WindowsUpdateCustomizerSchema = Type.Object(
  {
    type: Type.Literal('WindowsUpdate'),
    name,
    searchCriteria: Type.Optional(Type.String()),
    filters: Type.Optional(Type.Array(Type.String())),
    updateLimit: Type.Optional(int32({ minimum: 0 })),
  },
  { title: 'ImageTemplateWindowsUpdateCustomizer', since: '2020-02-14' },
);

export const CustomizerSchema = variants('type', [
  ShellCustomizerSchema,
  PowerShellCustomizerSchema,
  FileCustomizerSchema,
  WindowsRestartCustomizerSchema,
  WindowsUpdateCustomizerSchema,
]);

export type ShellCustomizer = Static<typeof ShellCustomizerSchema>;
export type FileCustomizer = Static<typeof FileCustomizerSchema>;
export type Customizer = Static<typeof CustomizerSchema>;

export function checkCustomizer(customizer: Customizer, at: JsonPath, rules: Rules): void {
  if (customizer.type === 'Shell' || customizer.type === 'PowerShell') checkScript(customizer, at, rules);
  if (customizer.type === 'File') checkFile(customizer, at, rules);
}
