/** Address ranges in CIDR notation, of both families: read, compared, written. Pure. */
import { isIPv4, isIPv6 } from 'node:net';

export interface Range {
  readonly family: 4 | 6;
  /** First and last address, as numbers. */
  readonly first: bigint;
  readonly last: bigint;
  /** Bits of the prefix. */
  readonly length: number;
}

const BITS = { 4: 32, 6: 128 } as const;

/**
 * `10.0.0.0/24`, `fd00::/48`. `exact`: false where bits behind the prefix are set (`10.0.0.1/24`); the range is that of the prefix then. `undefined` for text
 * that is no CIDR notation. Takes untrusted text.
 */
export function parseCidr(text: string): { readonly range: Range; readonly exact: boolean } | undefined {
  const found = /^([0-9A-Fa-f.:]{2,45})\/(\d{1,3})$/.exec(text);
  if (!found) return undefined;
  const [, address = '', digits = ''] = found;
  const family = isIPv4(address) ? 4 : isIPv6(address) ? 6 : undefined;
  const length = Number(digits);
  if (family === undefined || length > BITS[family] || (digits.length > 1 && digits.startsWith('0'))) return undefined;
  const value = family === 4 ? parseIPv4(address) : parseIPv6(address);
  const host = (1n << BigInt(BITS[family] - length)) - 1n;
  const first = value & ~host;
  return { range: { family, first, last: first | host, length }, exact: first === value };
}

/** One address, as a range of one. */
export function parseAddress(text: string): Range | undefined {
  return isIPv4(text) ? parseCidr(`${text}/32`)?.range : isIPv6(text) ? parseCidr(`${text}/128`)?.range : undefined;
}

export function contains(outer: Range, inner: Range): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;
}

export function overlap(a: Range, b: Range): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

/** The usual notation; of IPv6 without `::`. */
export function formatCidr({ family, first, length }: Range): string {
  const width = family === 4 ? 8n : 16n;
  const count = family === 4 ? 4 : 8;
  const parts = Array.from({ length: count }, (_, index) =>
    ((first >> (width * BigInt(count - 1 - index))) & ((1n << width) - 1n)).toString(family === 4 ? 10 : 16),
  );
  return `${parts.join(family === 4 ? '.' : ':')}/${length}`;
}

function parseIPv4(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

/** Of text that isIPv6 takes. */
function parseIPv6(text: string): bigint {
  // The last four bytes may be written as IPv4.
  const dotted = /^(.*:)([0-9.]+)$/.exec(text);
  const tail = dotted?.[2]?.includes('.') ? parseIPv4(dotted[2]) : undefined;
  const whole =
    tail === undefined ? text : `${dotted![1]}${(tail >> 16n).toString(16)}:${(tail & 0xffffn).toString(16)}`;
  const [head = '', rest] = whole.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const left = groups(head);
  const right = rest === undefined ? [] : groups(rest);
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].reduce((value, part) => (value << 16n) | BigInt(`0x${part}`), 0n);
}
