/** IPv4 addresses inside IPv6 ones: routers and kernels on the way turn the one into the other. */
import { BlockList } from 'node:net';

/** The address is in the last 32 bits: mapped, compatible (RFC 4291), translated (2765, 6052). */
const AT_THE_END = networks(['::ffff:0:0', 96], ['::', 96], ['::ffff:0:0:0', 96], ['64:ff9b::', 96]);
/** Behind the first 16 bits: 6to4 (RFC 3056). */
const SIX_TO_FOUR = networks(['2002::', 16]);
/** Translated with prefixes that each network chooses for itself (RFC 8215): of 48, 56, 64 or 96 bits. */
const LOCAL_USE = networks(['64:ff9b:1::', 48]);

/** All that an IPv6 address (without a zone) may stand for; empty for an ordinary one. */
export function embedded(address: string): string[] {
  const bytes = bytesOf(address);
  const found: number[][] = [];
  if (AT_THE_END.check(address, 'ipv6')) found.push(bytes.slice(12));
  if (SIX_TO_FOUR.check(address, 'ipv6')) found.push(bytes.slice(2, 6));
  if (LOCAL_USE.check(address, 'ipv6')) {
    if (bytes.slice(12).some(byte => byte !== 0)) found.push(bytes.slice(12));
    for (const prefix of [6, 7, 8]) {
      // Byte 8 is left out, and what follows is zero (RFC 6052, 2.2).
      const rest = bytes.filter((_, index) => index >= prefix && index !== 8);
      if (rest.slice(4).every(byte => byte === 0)) found.push(rest.slice(0, 4));
    }
  }
  return found.map(four => four.join('.'));
}

/** URL writes every IPv6 address in its canonical form, dotted endings as two groups. */
function bytesOf(address: string): number[] {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail ? tail.split(':') : [];
  const zeros = tail === undefined ? [] : Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].flatMap(group => {
    const number = Number.parseInt(group, 16);
    return [number >> 8, number & 255];
  });
}

function networks(...all: readonly (readonly [network: string, bits: number])[]): BlockList {
  const list = new BlockList();
  for (const [network, bits] of all) list.addSubnet(network, bits, 'ipv6');
  return list;
}
