/**
 * Everything that is wrong with a template, at once (to a limit). The real service stops at the first violation; ours lists all, in its words. Takes untrusted JSON.
 */
import { isSince } from '../../arm/api-versions.ts';
import { isIdOf } from '../../arm/ids.ts';
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import { findRegion, unknownLocation } from '../../arm/locations.ts';
import { limited, type Violation } from '../../arm/resource-type.ts';
import { type Finding, isObject, shape } from '../../arm/shape.ts';
import { brokenTags } from '../../arm/tags.ts';
import { IDENTITY_REQUIRED_SINCE, STRICT_SINCE } from './api-versions.ts';
import { checkCustomizer } from './customizers.ts';
import { checkDestinations } from './destinations.ts';
import { checkDistributors, lacksVersion, SOURCE_WITHOUT_VERSION } from './distributors.ts';
import { checkWorkload } from './optimization.ts';
import { checkProfile, IDENTITY_TYPE } from './profile.ts';
import { collectRules, parseGroup, type Rules, withoutEchoes } from './rules.ts';
import { type TemplateIdentity, type TemplateProperties, TemplateSchema } from './schema.ts';
import { checkSource } from './source.ts';
import { checkValidators } from './validators.ts';
import { violationOf } from './wording.ts';

export const TEMPLATE_TYPE = 'Microsoft.VirtualMachineImages/imageTemplates';
export const TEMPLATE_NAME = /^[A-Za-z0-9\-_.]{1,64}$/;

/** A template as its author wrote it, checked: known properties in their canonical spelling, nothing filled in. */
export interface CheckedTemplate {
  readonly location: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly identity?: TemplateIdentity;
  readonly properties: TemplateProperties;
}

export interface ValidateOptions {
  /** One of IMAGE_BUILDER_API_VERSIONS. */
  readonly apiVersion: string;
  /** Allow `file:` URLs (`kiln build`). */
  readonly localFiles?: boolean;
  /** Don't require an identity: whoever calls gives the template one (`kiln build`). */
  readonly identityOptional?: boolean;
}

export interface TemplateCheck {
  readonly violations: readonly Violation[];
  /** One sentence for each thing that is ignored or has no effect, beginning with its path. */
  readonly warnings: readonly string[];
  /** Meaningless when there are violations. */
  readonly template: CheckedTemplate;
}

export function validateTemplate(body: unknown, options: ValidateOptions): TemplateCheck {
  const strict = isSince(options.apiVersion, STRICT_SINCE);
  const shaped = shape(TemplateSchema, body, { apiVersion: options.apiVersion, caseSensitive: strict });
  const { rules, findings, warnings } = collectRules(options.apiVersion, options.localFiles ?? false);
  const template = shaped.value as CheckedTemplate;
  if (isObject(template)) {
    checkEnvelope(template, options, rules);
    if (isObject(template.properties)) checkProperties(template.properties, rules);
  }
  // Where not all that is malformed was kept, nobody knows which rules only echo it.
  const cut = shaped.leftOut.other > 0;
  const found: Finding[] = [...shaped.findings, ...(cut ? [] : withoutEchoes(findings.list, shaped.findings))];
  const leftOut = shaped.leftOut.other + (cut ? 0 : findings.leftOut.other);
  const ignored = strict ? [] : found.filter(finding => finding.kind === 'unknown');
  const broken = found.filter(finding => strict || finding.kind !== 'unknown');
  return {
    violations: limited(
      inDocumentOrder(broken).map(finding => violationOf(finding, options.apiVersion)),
      leftOut + (strict ? shaped.leftOut.unknown : 0),
    ),
    warnings: [
      ...ignored.map(
        finding => `${formatPath(finding.path)} is not known in api-version ${options.apiVersion} and is ignored.`,
      ),
      ...(shaped.leftOut.unknown > 0 && !strict
        ? [`${shaped.leftOut.unknown} more are not known and are ignored.`]
        : []),
      ...warnings.map(({ path, sentence }) => `${formatPath(path)} ${sentence}.`),
    ],
    template,
  };
}

/** The violation of a bad template name. */
export function checkTemplateName(name: string): Violation | undefined {
  if (TEMPLATE_NAME.test(name)) return undefined;
  const reason = 'A name has 1 to 64 letters, digits, hyphens, underscores or periods.';
  return violationOf({ kind: 'value', path: ['name'], value: name, reason }, '');
}

function checkEnvelope(template: CheckedTemplate, options: ValidateOptions, rules: Rules): void {
  if (template.location === undefined || template.location.trim() === '') rules.missing(['location']);
  else if (!findRegion(template.location))
    rules.bad(['location'], template.location, unknownLocation(template.location, TEMPLATE_TYPE));
  checkTags(template.tags, ['tags'], rules);
  const { identity } = template;
  if (identity === undefined) {
    if (!options.identityOptional && isSince(options.apiVersion, IDENTITY_REQUIRED_SINCE)) rules.missing(['identity']);
    return;
  }
  const ids = Object.keys(identity.userAssignedIdentities ?? {});
  const at = ['identity', 'userAssignedIdentities'];
  if (identity.type === 'None' && ids.length > 0) rules.rule(['identity'], [], "Type 'None' cannot have identities.");
  if (identity.type === 'UserAssigned' && ids.length === 0) rules.missing(at);
  if (identity.type === 'UserAssigned' && ids.length > 1)
    rules.rule(at, [], 'Image Builder supports only a single identity.');
  for (const id of ids)
    if (!isIdOf(id, IDENTITY_TYPE))
      rules.bad(
        [...at, id],
        id,
        'It must be the id of a user-assigned identity: /subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/….',
      );
}

/** Parts that were malformed are missing here or undefined in their lists: their own findings stand already. */
function checkProperties(properties: TemplateProperties, rules: Rules): void {
  const at = ['properties'];
  if (properties.source) checkSource(properties.source, [...at, 'source'], rules);
  properties.customize?.forEach((customizer, index) => {
    if (customizer) checkCustomizer(customizer, [...at, 'customize', index], rules);
  });
  if (properties.validate) checkValidators(properties.validate, [...at, 'validate'], rules);
  if (properties.distribute) {
    checkDistributors(properties.distribute, [...at, 'distribute'], rules);
    checkDestinations(properties.distribute, [...at, 'distribute'], rules);
  }
  properties.distribute?.forEach((target, index) => {
    checkTags(target?.artifactTags, [...at, 'distribute', index, 'artifactTags'], rules);
    if (target?.type === 'SharedImage' && properties.source && lacksVersion(target, properties.source))
      rules.rule([...at, 'distribute', index, 'versioning'], [], SOURCE_WITHOUT_VERSION);
  });
  if (properties.vmProfile) checkProfile(properties.vmProfile, [...at, 'vmProfile'], rules);
  const gib = properties.vmProfile?.osDiskSizeGB ?? 0;
  const most = properties.distribute?.some(target => target?.type === 'VHD') ? MOST_VHD_GIB : MOST_DISK_GIB;
  if (gib > most)
    rules.bad(
      [...at, 'vmProfile', 'osDiskSizeGB'],
      gib,
      `An OS disk can have ${MOST_DISK_GIB} GiB, a VHD ${MOST_VHD_GIB}.`,
    );
  const minutes = properties.buildTimeoutInMinutes;
  if (minutes !== undefined && minutes >= 1 && minutes <= 5)
    rules.bad(
      [...at, 'buildTimeoutInMinutes'],
      minutes,
      "1 to 5 are refused: the build's token must stay valid for more than 5 minutes. Use 6 to 960, or 0 for the default of 240.",
    );
  const group = properties.stagingResourceGroup;
  if (group && !parseGroup(group))
    rules.bad(
      [...at, 'stagingResourceGroup'],
      group,
      'It must be the id of a resource group: /subscriptions/…/resourceGroups/….',
    );
  if (properties.optimize?.workload)
    checkWorkload(properties.optimize.workload, [...at, 'optimize', 'workload'], rules);
  checkTags(properties.managedResourceTags, [...at, 'managedResourceTags'], rules);
}

/** Azure's largest OS disk; and what the fixed VHD format can say. */
const MOST_DISK_GIB = 4095;
const MOST_VHD_GIB = 2040;

function checkTags(tags: Readonly<Record<string, string>> | undefined, at: JsonPath, rules: Rules): void {
  for (const { name, reason } of brokenTags(tags)) {
    if (name === undefined) rules.rule(at, [], reason);
    else rules.bad([...at, name], tags![name], reason);
  }
}

const SECTIONS = ['location', 'tags', 'identity', 'properties'];
const PARTS = [
  'source',
  'customize',
  'optimize',
  'validate',
  'distribute',
  'errorHandling',
  'buildTimeoutInMinutes',
  'vmProfile',
];

/** Sections in the order in which people write and read them; what stands in one list, by its index. The first one becomes the message. */
function inDocumentOrder(findings: readonly Finding[]): Finding[] {
  const rank = (words: readonly string[], segment: unknown): number => {
    const index = words.indexOf(String(segment));
    return index === -1 ? words.length : index;
  };
  const key = ({ path }: Finding): number[] => [
    rank(SECTIONS, path[0]),
    rank(PARTS, path[1]),
    typeof path[2] === 'number' ? path[2] : -1,
  ];
  return findings
    .map(finding => ({ finding, key: key(finding) }))
    .sort((a, b) => a.key[0]! - b.key[0]! || a.key[1]! - b.key[1]! || a.key[2]! - b.key[2]!)
    .map(({ finding }) => finding);
}
