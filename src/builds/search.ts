/** Looks for byte strings in a text, however the text spells them. Both are strings of one character a byte. */
import { folded, foldedCode, isBegun, isSpelling, spellingsAt } from './spelling.ts';

export interface Found {
  /** Begin and end of each stretch that is part of one of them; in order, apart from each other. */
  readonly spans: readonly (readonly [start: number, end: number])[];
  /** From here on may stand the beginning of one that the text ends in; its length, where none can. */
  readonly open: number;
}

export interface Cut {
  /** So much of the text's beginning is known to be part of one. */
  readonly covered: number;
}

/** @param cut of a text that goes on; else nothing is open at its end */
export type Search = (text: string, cut?: Cut) => Found;

/** @param wanted of two bytes or more each */
export function searchFor(wanted: readonly string[]): Search {
  const needles = [...new Set(wanted.map(folded))];
  const byFirst = Array.from({ length: 256 }, (_, code) =>
    needles.filter(needle => needle.charCodeAt(0) === foldedCode(code)),
  );
  /** Whether one may begin with these two characters: nearly always not, and then nothing else is looked at. */
  const begins = new Uint8Array(256 * 256);
  for (let first = 0; first < 256; first++)
    for (let second = 0; second < 256; second++)
      begins[first * 256 + second] = Number(
        isSpelling(first) ||
          byFirst[first]!.some(needle => isSpelling(second) || needle.charCodeAt(1) === foldedCode(second)),
      );

  /** Which may begin at a place. */
  const fittingAt = (text: string, at: number, cut: Cut | undefined): readonly string[] => {
    const code = text.charCodeAt(at);
    if (!isSpelling(code)) return byFirst[code]!;
    if (cut && isBegun(text, at)) return needles;
    let fitting: readonly string[] = byFirst[code]!;
    for (const { bytes } of spellingsAt(text, at)) {
      const more = byFirst[bytes.charCodeAt(0)]!;
      if (more.length > 0) fitting = [...fitting, ...more];
    }
    return fitting;
  };

  return (text, cut) => {
    const spans: [number, number][] = [];
    const last = text.length - 1;
    let open = text.length;
    let [start, end] = [0, cut?.covered ?? 0];
    for (let at = 0; at <= last; at++) {
      if (at < last && begins[text.charCodeAt(at) * 256 + text.charCodeAt(at + 1)] === 0) continue;
      for (const needle of fittingAt(text, at, cut)) {
        const match = matchAt(text, at, needle);
        if (cut && match.open) open = Math.min(open, at);
        if (match.end <= end) continue;
        if (at >= end) {
          if (end > start) spans.push([start, end]);
          start = at;
        }
        end = match.end;
      }
    }
    if (end > start) spans.push([start, end]);
    return { spans, open };
  };
}

/** Where the longest spelling of the needle ends that begins here, -1 without one; and whether the text ends in the middle of one. */
function matchAt(text: string, start: number, needle: string): { readonly end: number; readonly open: boolean } {
  let end = -1;
  let open = false;
  const ways: [done: number, at: number][] = [[0, start]];
  // A text of backslashes alone can be read in as many ways as it has parts.
  const gone = new Set<number>();
  for (let way = ways.pop(); way; way = ways.pop()) {
    let [done, at] = way;
    while (done < needle.length && at < text.length) {
      const code = text.charCodeAt(at);
      if (isSpelling(code) || foldedCode(code) !== needle.charCodeAt(done)) break;
      done++;
      at++;
    }
    if (done === needle.length) end = Math.max(end, at);
    else if (at === text.length) open = true;
    else if (isSpelling(text.charCodeAt(at)) && !gone.has(done * text.length + at)) {
      gone.add(done * text.length + at);
      open ||= isBegun(text, at);
      const itself = { bytes: text[at]!, end: at + 1 };
      for (const { bytes, end } of [itself, ...spellingsAt(text, at)])
        if (needle.startsWith(folded(bytes), done)) ways.push([done + bytes.length, end]);
    }
  }
  return { end, open };
}
