/** A list of findings that cannot grow with what a stranger sends: a body of four megabytes has room for hundreds of thousands. */
import type { Finding } from './shape.ts';

/** Of unknown properties, and as many of all others; so many violations an error has, too. */
export const MOST_FINDINGS = 100;

export interface Findings<Kind extends Finding = Finding> {
  readonly list: readonly Kind[];
  /** How many are not in the list, `unknown` ones and others: the first may be no violations. */
  readonly leftOut: LeftOut;
  add(finding: Kind): void;
}

export interface LeftOut {
  readonly unknown: number;
  readonly other: number;
}

export function collectFindings<Kind extends Finding = Finding>(): Findings<Kind> {
  const list: Kind[] = [];
  const found = { unknown: 0, other: 0 };
  return {
    list,
    get leftOut() {
      return {
        unknown: Math.max(0, found.unknown - MOST_FINDINGS),
        other: Math.max(0, found.other - MOST_FINDINGS),
      };
    },
    add(finding) {
      const which = finding.kind === 'unknown' ? 'unknown' : 'other';
      found[which] += 1;
      if (found[which] <= MOST_FINDINGS) list.push(finding);
    },
  };
}
