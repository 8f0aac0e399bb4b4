/**
 * Shared access signatures: what a URL's query grants, and the text that is signed for it. The layouts of that text have grown by lines from version to version
 * (learn.microsoft.com, "Create an account SAS", "… a service SAS", "… a user delegation SAS"); those of 2015-04-05 and later are here.
 */
import { parseAddress } from '../network/cidr.ts';
import type { Delegation } from './account-keys.ts';

export type SasKind = 'account' | 'service' | 'delegation';

/** The parameters, as they are signed: texts. Missing ones are empty. */
export type SasParameters = Readonly<Record<SasParameter, string>>;

const PARAMETERS = [
  ...(['sv', 'sp', 'st', 'se', 'sip', 'spr', 'sig', 'ses'] as const),
  ...(['ss', 'srt'] as const),
  ...(['sr', 'si', 'sdd', 'rscc', 'rscd', 'rsce', 'rscl', 'rsct'] as const),
  ...([
    'skoid',
    'sktid',
    'skt',
    'ske',
    'sks',
    'skv',
    'saoid',
    'suoid',
    'scid',
    'skdutid',
    'sduoid',
    'srh',
    'srq',
  ] as const),
] as const;
export type SasParameter = (typeof PARAMETERS)[number];

/** Those that are given, with the others empty. */
export function sasParameters(given: Partial<SasParameters>): SasParameters {
  return Object.fromEntries(PARAMETERS.map(name => [name, given[name] ?? ''])) as SasParameters;
}

const OLDEST = '2015-04-05';

/** Undefined for a query without a signature; `broken` for one that cannot be judged: it says why. */
export function readSas(
  query: readonly (readonly [string, string])[],
): { readonly kind: SasKind; readonly parameters: SasParameters } | { readonly broken: string } | undefined {
  const given = new Map<string, string>();
  for (const [name, value] of query) {
    const known = PARAMETERS.find(one => one === name.toLowerCase());
    if (known === undefined) continue;
    if (given.has(known)) return { broken: `${known} is given twice` };
    given.set(known, value);
  }
  if (!given.get('sig')) return undefined;
  const parameters = sasParameters(Object.fromEntries(given));
  const { sv, sr, ss, srt, skoid } = parameters;
  if (!/^\d{4}-\d\d-\d\d$/.test(sv)) return { broken: 'sv is mandatory. Cannot be empty' };
  if (sv < OLDEST) return { broken: `sv is older than ${OLDEST}` };
  if (ss !== '' || srt !== '') {
    if (sr !== '' || skoid !== '') return { broken: 'Either sr or srt can be specified, not both' };
    return { kind: 'account', parameters };
  }
  if (!['c', 'b', 'bs', 'bv'].includes(sr))
    return { broken: `sr ${sr === '' ? 'is mandatory. Cannot be empty' : 'is invalid'}` };
  return { kind: skoid === '' ? 'service' : 'delegation', parameters };
}

/** What the signature is bound to. */
export interface SasResource {
  readonly account: string;
  /** Of service and delegation signatures: decoded. */
  readonly container?: string;
  readonly blob?: string;
  /** The version or snapshot that `bv` and `bs` mean. */
  readonly time?: string;
}

export function sasStringToSign(kind: SasKind, p: SasParameters, on: SasResource): string {
  if (kind === 'account') {
    const scope = p.sv >= '2020-12-06' ? [p.ses] : [];
    return [on.account, p.sp, p.ss, p.srt, p.st, p.se, p.sip, p.spr, p.sv, ...scope, ''].join('\n');
  }
  const of = p.sr === 'c' ? '' : `/${on.blob ?? ''}`;
  const name = `/blob/${on.account}/${on.container ?? ''}${of}`;
  const overrides = [p.rscc, p.rscd, p.rsce, p.rscl, p.rsct];
  const resource = p.sv >= '2018-11-09' ? [p.sr, on.time ?? ''] : [];
  const scope = p.sv >= '2020-12-06' ? [p.ses] : [];
  if (kind === 'service')
    return [p.sp, p.st, p.se, name, p.si, p.sip, p.spr, p.sv, ...resource, ...scope, ...overrides].join('\n');
  const agents = p.sv >= '2020-02-10' ? [p.saoid, p.suoid, p.scid] : [];
  const users = p.sv >= '2025-07-05' ? [p.skdutid, p.sduoid] : [];
  // Signed headers and query parameters (srh, srq) are not supported: signatures that have them are refused before.
  const signedRequest = p.sv >= '2026-04-06' ? ['', ''] : [];
  return [
    ...[p.sp, p.st, p.se, name, p.skoid, p.sktid, p.skt, p.ske, p.sks, p.skv, ...agents, ...users],
    ...[p.sip, p.spr, p.sv, ...resource, ...scope, ...signedRequest, ...overrides],
  ].join('\n');
}

export const delegationOf = (p: SasParameters): Delegation => ({
  objectId: p.skoid,
  tenantId: p.sktid,
  start: p.skt,
  expiry: p.ske,
  service: p.sks,
  version: p.skv,
});

/** ISO 8601 in UTC, to the day, minute, second, or finer; undefined for anything else. */
export function sasTime(text: string): Date | undefined {
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,7})?)?Z)?$/.test(text)) return undefined;
  const time = new Date(text.replace(/(\.\d{3})\d+Z$/, '$1Z'));
  return Number.isNaN(time.getTime()) ? undefined : time;
}

/** `1.2.3.4` or `1.2.3.4-1.2.3.9`. A socket that takes both families says `::ffff:1.2.3.4`. */
export function sasAddressAllowed(range: string, address: string): boolean {
  const [from, to = from] = range.split('-').map(parseAddress);
  const at = parseAddress(address.replace(/^::ffff:/i, ''));
  if (!from || !to || !at || from.family !== at.family || to.family !== at.family) return false;
  return from.first <= at.first && at.last <= to.last;
}
