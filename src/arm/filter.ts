/** `$filter`, as far as clients of Resource Manager write it: comparisons of text, functions, and, or, not, parentheses. */
import { KilnError } from './errors.ts';

export type Filter =
  | { readonly kind: 'and' | 'or'; readonly parts: readonly Filter[] }
  | { readonly kind: 'not'; readonly part: Filter }
  | { readonly kind: 'is'; readonly field: string; readonly value: string; readonly negated: boolean }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly string[] };

/** What a filter asks about one item; both throw for what the list does not know, with `unknownInFilter`. */
export interface FilterSubject {
  /** By the field's name in lower case. */
  is(field: string, value: string): boolean;
  call(name: string, args: readonly string[]): boolean;
}

const TOKEN = /\s*(?:([()]|,)|'((?:[^']|'')*)'|([A-Za-z_$][\w$./]*))/y;
const DEEPEST = 16;

/** Reads untrusted text. Errors: InvalidFilterInQueryString. */
export function parseFilter(text: string): Filter {
  const tokens = tokenize(text);
  let at = 0;
  const peek = (word: string) => tokens[at]?.text?.toLowerCase() === word && tokens[at]?.literal === undefined;
  const take = (word: string): void => {
    if (!peek(word)) throw invalid(text);
    at += 1;
  };

  function or(depth: number): Filter {
    if (depth > DEEPEST) throw invalid(text);
    return several('or', () => several('and', () => unary(depth)));
  }
  function several(kind: 'and' | 'or', read: () => Filter): Filter {
    const parts = [read()];
    for (; peek(kind); ) {
      at += 1;
      parts.push(read());
    }
    return parts.length === 1 ? parts[0]! : { kind, parts };
  }
  function unary(depth: number): Filter {
    if (depth > DEEPEST) throw invalid(text);
    if (peek('not')) {
      at += 1;
      return { kind: 'not', part: unary(depth + 1) };
    }
    if (peek('(')) {
      at += 1;
      const inner = or(depth + 1);
      take(')');
      return inner;
    }
    const name = tokens[at]?.text;
    if (name === undefined || /^[(),]$/.test(name)) throw invalid(text);
    at += 1;
    if (peek('(')) return call(name);
    const negated = peek('ne');
    if (!negated && !peek('eq')) throw invalid(text);
    at += 1;
    const value = tokens[at]?.literal;
    if (value === undefined) throw invalid(text);
    at += 1;
    return { kind: 'is', field: name.toLowerCase(), value, negated };
  }
  /** Arguments are literals or names; a name stands for itself: substringof('web', name). */
  function call(name: string): Filter {
    take('(');
    const args: string[] = [];
    for (; !peek(')'); at += 1) {
      if (args.length > 0) take(',');
      const token = tokens[at];
      if (token === undefined || /^[(),]$/.test(token.text ?? '')) throw invalid(text);
      args.push(token.literal ?? token.text!);
    }
    at += 1;
    return { kind: 'call', name: name.toLowerCase(), args };
  }

  const filter = or(0);
  if (at !== tokens.length) throw invalid(text);
  return filter;
}

export function matches(filter: Filter, subject: FilterSubject): boolean {
  switch (filter.kind) {
    case 'and':
      return filter.parts.every(part => matches(part, subject));
    case 'or':
      return filter.parts.some(part => matches(part, subject));
    case 'not':
      return !matches(filter.part, subject);
    case 'is':
      return subject.is(filter.field, filter.value) !== filter.negated;
    case 'call':
      return subject.call(filter.name, filter.args);
  }
}

/** For a field or a function that a list does not have. */
export function unknownInFilter(name: string, known: readonly string[]): KilnError {
  return new KilnError('InvalidFilterInQueryString', `Invalid $filter: '${name}' is not known here.`, {
    target: '$filter',
    hint: `There are ${known.join(', ')}.`,
  });
}

interface Token {
  /** A name or a sign. */
  readonly text?: string;
  /** Between quotes. */
  readonly literal?: string;
}

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  for (let end = text.trimEnd().length, at = 0; at < end; at = TOKEN.lastIndex) {
    const match = TOKEN.exec(text);
    if (!match) throw invalid(text);
    tokens.push(match[2] === undefined ? { text: match[1] ?? match[3]! } : { literal: match[2].replaceAll("''", "'") });
  }
  return tokens;
}

function invalid(text: string): KilnError {
  return new KilnError(
    'InvalidFilterInQueryString',
    `Invalid $filter '${text.slice(0, 200)}' specified in the query string.`,
    { target: '$filter' },
  );
}
