/**
 * How URLs, JSON, HTML and shells write a byte: what stands at a place of a text may be read in several ways, and all of them count. Texts and bytes are strings of one
 * character a byte (latin1) here, so that what is cut anywhere, or is no UTF-8, is read as well as all else.
 */

export interface Spelling {
  /** What is meant. */
  readonly bytes: string;
  /** Where what follows begins. */
  readonly end: number;
}

/** Characters of the longest spelling: `&#x0000000041;`. */
export const LONGEST_SPELLING = 14;

const [PERCENT, BACKSLASH, AMPERSAND] = [0x25, 0x5c, 0x26] as const;

/** Whether what begins with the character of this code may stand for another one. */
export const isSpelling = (code: number): boolean => code === PERCENT || code === BACKSLASH || code === AMPERSAND;

const NONE: readonly Spelling[] = Object.freeze([]);

/** What may be meant by what stands at a place, besides the character itself. */
export function spellingsAt(text: string, at: number): readonly Spelling[] {
  switch (text.charCodeAt(at)) {
    case PERCENT:
      return percent(text, at);
    case BACKSLASH:
      return backslash(text, at);
    case AMPERSAND:
      return ampersand(text, at);
    default:
      return NONE;
  }
}

const BEGUN = /^(?:%[0-9a-f]{0,5}|\\+(?:[ux][0-9a-f]{0,3})?|\\u[0-9a-f]{4}\\?u?[0-9a-f]{0,3}|&#?[0-9a-z]*)$/i;

/** Whether the text ends in the middle of what may be meant here. */
export const isBegun = (text: string, at: number): boolean =>
  text.length - at < LONGEST_SPELLING && BEGUN.test(text.slice(at));

/** `%41`; and `%2541`, `%252541`: what is encoded once more has its percent sign encoded. */
function percent(text: string, at: number): Spelling[] {
  const found: Spelling[] = [];
  for (let digits = at + 1; digits <= at + 5; digits += 2) {
    const byte = hexByte(text, digits);
    if (byte === undefined) break;
    found.push({ bytes: String.fromCharCode(byte), end: digits + 2 });
    if (byte !== 0x25) break;
  }
  return found;
}

function hexByte(text: string, at: number): number | undefined {
  const [high, low] = [hexDigit(text.charCodeAt(at)), hexDigit(text.charCodeAt(at + 1))];
  return high < 0 || low < 0 ? undefined : high * 16 + low;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

const PAIR = /\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})/iy;
const ESCAPE = /\\{1,3}(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([^a-z0-9\\]))/iy;

/** `\u0041`, `\x41`, `\/`, `\\`; a text within a text has three of them. */
function backslash(text: string, at: number): Spelling[] {
  if (text[at + 1] === '\\') {
    const found = [{ bytes: '\\', end: at + 2 }];
    if (text[at + 2] === '\\' && text[at + 3] === '\\') found.push({ bytes: '\\', end: at + 4 });
    else found.push(...escaped(text, at));
    return found;
  }
  PAIR.lastIndex = at;
  const [, high, low] = PAIR.exec(text) ?? [];
  if (high === undefined || low === undefined) return escaped(text, at);
  const codePoint = 0x10000 + ((Number.parseInt(high, 16) - 0xd800) << 10) + Number.parseInt(low, 16) - 0xdc00;
  return [{ bytes: utf8(codePoint), end: PAIR.lastIndex }];
}

function escaped(text: string, at: number): Spelling[] {
  ESCAPE.lastIndex = at;
  const [, unit, byte, itself] = ESCAPE.exec(text) ?? [];
  const bytes =
    unit !== undefined
      ? utf8(Number.parseInt(unit, 16))
      : byte !== undefined
        ? String.fromCharCode(Number.parseInt(byte, 16))
        : itself;
  return bytes === undefined ? [] : [{ bytes, end: ESCAPE.lastIndex }];
}

const ENTITY = /&(?:#0{0,4}([0-9]{1,7})|#x0{0,4}([0-9a-f]{1,6})|([a-z]{2,8}));/iy;
const NAMED: Readonly<Record<string, string>> = Object.freeze({
  ...{ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" },
  ...{ plus: '+', equals: '=', sol: '/', percnt: '%' },
});

/** `&#65;`, `&#x41;`, `&amp;` */
function ampersand(text: string, at: number): Spelling[] {
  ENTITY.lastIndex = at;
  const [, decimal, hex, name] = ENTITY.exec(text) ?? [];
  const bytes =
    name !== undefined ? NAMED[name.toLowerCase()] : utf8(decimal ? Number(decimal) : Number.parseInt(hex ?? '', 16));
  return bytes === undefined || bytes === '' ? [] : [{ bytes, end: ENTITY.lastIndex }];
}

const utf8 = (codePoint: number): string =>
  codePoint <= 0x10ffff ? Buffer.from(String.fromCodePoint(codePoint)).toString('latin1') : '';

const ALIKE: Readonly<Record<string, string>> = Object.freeze({ ' ': '+', '-': '+', _: '/' });
const FOLDED = Uint8Array.from({ length: 256 }, (_, code) => {
  const character = String.fromCharCode(code);
  return (ALIKE[character] ?? character).charCodeAt(0);
});

/** A form writes a blank as a plus; base64 in a URL writes a plus as a hyphen, and a slash as an underscore. What differs in this alone is the same here. */
export const folded = (bytes: string): string => bytes.replace(/[ _-]/g, one => ALIKE[one]!);

/** The same, of one code. */
export const foldedCode = (code: number): number => FOLDED[code]!;

/** Bytes whose percent signs are undone, once. */
export const percentDecoded = (bytes: string): string =>
  bytes.replace(/%[0-9a-f]{2}/gi, sign => String.fromCharCode(hexByte(sign, 1)!));
