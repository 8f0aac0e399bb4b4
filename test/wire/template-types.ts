/** The types of a template's best-known members, written down by hand: what tells an accepted wrong type where Microsoft's files are not at hand. */

type Rule = 'string' | 'integer' | 'boolean' | readonly [Rule] | { readonly [member: string]: Rule } | Map_;
interface Map_ {
  readonly each: Rule;
}

const isMap = (rule: Rule): rule is Map_ => typeof rule === 'object' && !Array.isArray(rule) && 'each' in rule;

const STEP: Rule = {
  type: 'string',
  name: 'string',
  inline: ['string'],
  scriptUri: 'string',
  sourceUri: 'string',
  destination: 'string',
  sha256Checksum: 'string',
  runElevated: 'boolean',
  runAsSystem: 'boolean',
  validExitCodes: ['integer'],
  updateLimit: 'integer',
  filters: ['string'],
};

/** Members of all kinds of steps and distributors together: one that belongs to another kind is ignored, so its type may be anything. */
const TEMPLATE: Rule = {
  location: 'string',
  tags: { each: 'string' },
  identity: { type: 'string', userAssignedIdentities: { each: {} } },
  properties: {
    source: { type: 'string', publisher: 'string', offer: 'string', sku: 'string', version: 'string' },
    customize: [{ type: 'string' }],
    distribute: [{ type: 'string', runOutputName: 'string', artifactTags: { each: 'string' } }],
    buildTimeoutInMinutes: 'integer',
    vmProfile: { vmSize: 'string' },
  },
};

const OWN_MEMBERS: Readonly<Record<string, readonly string[]>> = {
  Shell: ['inline', 'scriptUri', 'sha256Checksum', 'name'],
  PowerShell: ['inline', 'scriptUri', 'sha256Checksum', 'name', 'runElevated', 'runAsSystem', 'validExitCodes'],
  File: ['sourceUri', 'destination', 'sha256Checksum', 'name'],
  WindowsUpdate: ['updateLimit', 'filters', 'name'],
};

/** What is of a wrong type in a body; null is absent. Empty for one that may be accepted. */
export function wrongTypes(body: unknown): string[] {
  const found: string[] = [];
  check(body, TEMPLATE, 'body', found);
  const steps = (body as { properties?: { customize?: unknown } } | null)?.properties?.customize;
  if (Array.isArray(steps))
    steps.forEach((step, index) => {
      const own = OWN_MEMBERS[(step as { type?: string } | null)?.type ?? ''] ?? [];
      const rules = Object.fromEntries(own.map(member => [member, (STEP as Record<string, Rule>)[member]!]));
      check(step, rules, `customize[${index}]`, found);
    });
  return found;
}

function check(value: unknown, rule: Rule, at: string, found: string[]): void {
  if (value === null || value === undefined) return;
  if (typeof rule === 'string') {
    const right = rule === 'integer' ? Number.isInteger(value) : typeof value === rule;
    if (!right) found.push(`${at} is no ${rule}`);
  } else if (Array.isArray(rule)) {
    if (!Array.isArray(value)) found.push(`${at} is no list`);
    else value.forEach((item, index) => void check(item, rule[0], `${at}[${index}]`, found));
  } else if (typeof value !== 'object' || Array.isArray(value)) found.push(`${at} is no object`);
  else if (isMap(rule as Rule))
    for (const [key, member] of Object.entries(value)) check(member, (rule as Map_).each, `${at}.${key}`, found);
  else
    for (const [key, member] of Object.entries(rule as Record<string, Rule>))
      check((value as Record<string, unknown>)[key], member, `${at}.${key}`, found);
}
