/**
 * CRC-32 of bytes that lie behind each other, from the CRCs of both: of parts that were read side by side. A CRC is a remainder of polynomials over bits, so bytes that
 * come behind shift what was before by a power of x (zlib's crc32_combine).
 */

/** The polynomial of zlib and Ethernet; the highest power of x is the lowest bit. */
const POLYNOMIAL = 0xedb88320;
const ONE = 0x8000_0000;
const X = 0x4000_0000;

/** @param length bytes that `second` is of */
export function combineCrc32(first: number, second: number, length: number): number {
  return (multiply(shiftOf(length), first) ^ second) >>> 0;
}

const shifts = new Map<number, number>();

/** x to the power of the bits of so many bytes. Few lengths are ever asked for. */
function shiftOf(length: number): number {
  let shift = shifts.get(length);
  if (shift !== undefined) return shift;
  shift = ONE;
  let power = X;
  for (let bits = BigInt(length) * 8n; bits > 0n; bits >>= 1n) {
    if (bits & 1n) shift = multiply(power, shift);
    power = multiply(power, power);
  }
  if (shifts.size > 100) shifts.clear();
  shifts.set(length, shift);
  return shift;
}

function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= factor;
    factor = factor & 1 ? (factor >>> 1) ^ POLYNOMIAL : factor >>> 1;
  }
  return product >>> 0;
}
