/** Scripts as customizers and validators have them: inline lines, or a URL with an optional checksum; and what PowerShell adds. */
import { Type } from '@sinclair/typebox';
import type { JsonPath } from '../../arm/json-path.ts';
import { int32 } from '../../arm/shape.ts';
import { CHECKSUM, checkUrl, type Rules } from './rules.ts';

export const scriptProperties = {
  name: Type.Optional(Type.String()),
  scriptUri: Type.Optional(Type.String()),
  sha256Checksum: Type.Optional(Type.String(CHECKSUM)),
  inline: Type.Optional(Type.Array(Type.String())),
};

export const powerShellProperties = {
  ...scriptProperties,
  runElevated: Type.Optional(Type.Boolean()),
  runAsSystem: Type.Optional(Type.Boolean({ since: '2020-02-14' })),
  validExitCodes: Type.Optional(Type.Array(int32())),
};

export const fileProperties = {
  name: Type.Optional(Type.String()),
  sourceUri: Type.String(),
  sha256Checksum: Type.Optional(Type.String(CHECKSUM)),
  destination: Type.String({ minLength: 1 }),
};

interface Script {
  readonly scriptUri?: string;
  readonly sha256Checksum?: string;
  readonly inline?: readonly string[];
  readonly runElevated?: boolean;
  readonly runAsSystem?: boolean;
}

/** "Exactly one of 'scriptUri' or 'inline' can be specified" (the OpenAPI text); an empty scriptUri counts as none, as the service echoes it. */
export function checkScript(script: Script, at: JsonPath, rules: Rules): void {
  const byUri = script.scriptUri !== undefined && script.scriptUri !== '';
  if (byUri && script.inline !== undefined && script.inline.length > 0)
    rules.rule(at, ['scriptUri', 'inline'], "Exactly one of 'scriptUri' or 'inline' can be specified.");
  else if (script.inline?.length === 0 && !byUri) rules.bad([...at, 'inline'], script.inline, 'It must not be empty.');
  else if (!byUri && script.inline === undefined)
    rules.rule(at, ['scriptUri', 'inline'], "Exactly one of 'scriptUri' or 'inline' must be specified.");
  if (byUri) checkUrl(rules, [...at, 'scriptUri'], script.scriptUri!);
  if (script.sha256Checksum && !byUri)
    rules.warn([...at, 'sha256Checksum'], "has no effect: only a 'scriptUri' is checked against it");
  if (script.runAsSystem && !script.runElevated)
    rules.rule(at, ['runElevated', 'runAsSystem'], "'runAsSystem' can only be true when 'runElevated' is true.");
}

export function checkFile(file: { readonly sourceUri?: string }, at: JsonPath, rules: Rules): void {
  if (file.sourceUri !== undefined) checkUrl(rules, [...at, 'sourceUri'], file.sourceUri);
}
