/** What the rules of a template's parts share: a place to report to, and the forms of values that several parts have. */
import { collectFindings, MOST_FINDINGS } from '../../arm/findings.ts';
import { tryParseId } from '../../arm/ids.ts';
import type { JsonPath } from '../../arm/json-path.ts';
import type { Finding } from '../../arm/shape.ts';

export interface Rules {
  readonly apiVersion: string;
  /** Whether `file:` URLs may be fetched: in templates that a person builds from the command line, never in the API. */
  readonly localFiles: boolean;
  /** A property with a bad value; `reason` in plain words. */
  bad(path: JsonPath, value: unknown, reason: string): void;
  missing(path: JsonPath): void;
  /** Properties that don't go together; `path` is the object that holds these `fields`. */
  rule(path: JsonPath, fields: readonly string[], reason: string): void;
  /** Something that has no effect. */
  warn(path: JsonPath, sentence: string): void;
}

/** A finding that several fields led to. */
export interface RuleFinding extends Finding {
  readonly fields?: readonly string[];
}

/** A field that is malformed is told of once; rules that would miss it are silent. */
export function withoutEchoes(rules: readonly RuleFinding[], shapes: readonly Finding[]): RuleFinding[] {
  const malformed = shapes.filter(finding => finding.kind !== 'unknown').map(finding => finding.path.map(lower));
  const told = (path: JsonPath): boolean =>
    malformed.some(one => path.every((segment, index) => lower(segment) === one[index]));
  return rules.filter(({ kind, path, fields }) =>
    kind === 'rule' ? !fields?.some(field => told([...path, field])) : kind !== 'missing' || !told(path),
  );
}

const lower = (segment: string | number): string | number =>
  typeof segment === 'string' ? segment.toLowerCase() : segment;

export function collectRules(apiVersion: string, localFiles: boolean) {
  const findings = collectFindings<RuleFinding>();
  const warnings: { path: JsonPath; sentence: string }[] = [];
  const rules: Rules = {
    apiVersion,
    localFiles,
    bad: (path, value, reason) => void findings.add({ kind: 'value', path, value, reason }),
    missing: path => void findings.add({ kind: 'missing', path }),
    rule: (path, fields, reason) => void findings.add({ kind: 'rule', path, fields, reason }),
    warn(path, sentence) {
      if (warnings.length < MOST_FINDINGS) warnings.push({ path, sentence });
    },
  };
  return { rules, findings, warnings };
}

/** A URL that Kiln fetches: http, https, and `file:` where local files are allowed. Untrusted text. */
export function checkUrl(rules: Rules, path: JsonPath, text: string): void {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'https:' || url?.protocol === 'http:') return;
  if (url?.protocol === 'file:' && rules.localFiles) return;
  rules.bad(
    path,
    text,
    url?.protocol === 'file:'
      ? 'Local files can only be used with `kiln build`.'
      : 'It must be an absolute http or https URL.',
  );
}

/** The id of a resource group. Clients also send it without the first slash (recorded); undefined where the text names no group. */
export function parseGroup(text: string): { subscription: string; name: string } | undefined {
  const id = tryParseId(text.startsWith('/') ? text : `/${text}`);
  if (id?.resourceGroup === undefined || id.names.length !== 1 || id.name !== id.resourceGroup) return undefined;
  return { subscription: id.subscription, name: id.name };
}

/** SHA-256 in hexadecimal, or empty for "not given". */
export const CHECKSUM = {
  pattern: '^([0-9a-fA-F]{64})?$',
  reason: 'It must be a SHA-256 checksum: 64 hexadecimal digits.',
} as const;
