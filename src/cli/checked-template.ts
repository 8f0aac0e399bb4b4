/** A template file that is known to be buildable: read, validated in full, with every complaint at its line. */

import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { checkApiVersion } from '../arm/api-versions.ts';
import { asKilnError, KilnError } from '../arm/errors.ts';
import { type Violation, violationError } from '../arm/resource-type.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import type { MachineKind } from '../machines/machine.ts';
import { IMAGE_BUILDER_API_VERSIONS, NEWEST_API_VERSION } from '../providers/image-builder/api-versions.ts';
import { MACHINES, machineAskedFor } from '../providers/image-builder/machine-choice.ts';
import { type ImageTemplate, normaliseTemplate } from '../providers/image-builder/normalise.ts';
import { refuseUnsupported, unsupported } from '../providers/image-builder/unsupported.ts';
import { checkTemplateName, TEMPLATE_TYPE, validateTemplate } from '../providers/image-builder/validate.ts';
import { readTemplateFile, type TemplateFile } from './template-file.ts';

export interface CheckedTemplateFile {
  readonly name: string;
  readonly template: ImageTemplate;
  /** As it is sent to the provider. */
  readonly body: JsonObject;
  /** What has no effect here; one sentence each. */
  readonly warnings: readonly string[];
  /** Gives an error about a JSON path of the template its place in the file. */
  locate(error: KilnError): KilnError;
}

/** @param shown the path as it was typed. Errors: those of readTemplateFile, ValidationFailed, NotSupported. */
export async function checkTemplateFile(
  shown: string,
  set: Readonly<Record<string, string>>,
): Promise<CheckedTemplateFile> {
  const file = await readTemplateFile(shown, { set });
  const locate = (error: KilnError) => located(error, file, shown);
  try {
    const apiVersion = checkApiVersion(
      file.apiVersion ?? NEWEST_API_VERSION,
      IMAGE_BUILDER_API_VERSIONS,
      TEMPLATE_TYPE,
    );
    const { violations, warnings, template } = validateTemplate(file.body, {
      apiVersion,
      localFiles: true,
      identityOptional: true,
    });
    const name = checkTemplateName(file.name);
    const all = [...(name ? [name] : []), ...violations, ...(await missingFiles(file.body))];
    if (all.length > 0) throw violationError('ValidationFailed', all);
    const normal = normaliseTemplate(template, apiVersion);
    const parts = unsupported(normal, { local: true });
    refuseUnsupported(parts);
    return { name: file.name, body: file.body, template: normal, warnings: [...warnings, ...parts.warnings], locate };
  } catch (error) {
    throw error instanceof KilnError ? locate(error) : error;
  }
}

/** Of `--machine`. */
export const MACHINE_WORDS = [...Object.keys(MACHINES), 'template'];

/** The kind of machine for `--machine`'s word, or for none. Errors: ValidationFailed and NotSupported, at the tag's line. */
export function machineFor({ template, locate }: CheckedTemplateFile, word: string | undefined): MachineKind {
  try {
    return machineAskedFor(template, word);
  } catch (error) {
    throw locate(asKilnError(error));
  }
}

/** Local scripts and files that are not there, told with everything else that is wrong. */
async function missingFiles({ properties }: JsonObject): Promise<Violation[]> {
  const part = (value: unknown, name: string): unknown => (isObject(value) ? value[name] : undefined);
  const lists: readonly [path: string, steps: unknown][] = [
    ['properties.customize', part(properties, 'customize')],
    ['properties.validate.inVMValidations', part(part(properties, 'validate'), 'inVMValidations')],
  ];
  const steps = lists.flatMap(([path, list]) =>
    (Array.isArray(list) ? list : []).map((step: unknown, index) => ({ step, path: `${path}[${index}]` })),
  );
  const workload = part(part(properties, 'optimize'), 'workload');
  steps.push({ step: workload, path: 'properties.optimize.workload' });
  const found: Violation[] = [];
  for (const { step, path: at } of steps)
    for (const field of ['scriptUri', 'sourceUri']) {
      const url = isObject(step) ? step[field] : undefined;
      if (typeof url !== 'string' || !url.startsWith('file:') || !URL.canParse(url)) continue;
      const path = localPath(url);
      const readable =
        path !== undefined &&
        (await access(path, constants.R_OK).then(
          () => true,
          () => false,
        ));
      if (!readable)
        found.push({
          path: `${at}.${field}`,
          message: `There is no readable file ${path ?? url}.`,
          hint: 'Local paths are relative to the template file.',
        });
    }
  return found;
}

/** undefined: another host's file, or a path that cannot be one. */
function localPath(url: string): string | undefined {
  try {
    return fileURLToPath(url);
  } catch {
    return undefined;
  }
}

const PATH = /^(properties|location|tags|identity|apiVersion|name)\b/;

function located(error: KilnError, file: TemplateFile, shown: string): KilnError {
  let { target } = error;
  if (target !== undefined && PATH.test(target)) {
    const { line, column } = file.locate(target);
    target = `${shown}:${line}:${column} (${target})`;
  }
  return new KilnError(error.code, error.message, {
    ...(target !== undefined && { target }),
    ...(error.hint !== undefined && { hint: error.hint }),
    details: error.details.map(detail => located(detail, file, shown)),
    cause: error.cause,
  });
}
