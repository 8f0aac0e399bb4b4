/**
 * JSON written by people: comments allowed, everything else as the standard has it; and where each value stands, so that an error can say line and column.
 * Takes untrusted bytes.
 */
import * as jsonc from 'jsonc-parser';
import { KilnError } from '../arm/errors.ts';
import { formatPath, type JsonPath, parsePath } from '../arm/json-path.ts';

/** Both count from 1; a column is a character (UTF-16 code unit), as editors count. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface JsonText {
  readonly value: unknown;
  /** Where the property (its name) or the list item at this path stands; where there is none, its nearest ancestor. */
  locate(path: string | JsonPath): Position;
}

export interface JsonTextOptions {
  /** Changes strings and property names while they are read. */
  readonly rewrite?: (text: string, path: JsonPath) => string;
}

/** Azure takes requests of up to 4 MB. */
export const MAX_JSON_BYTES = 4 * 1024 * 1024;
export const MAX_JSON_DEPTH = 100;
const MAX_SYNTAX_ERRORS = 10;

/** Decodes a file: UTF-8, or UTF-16 with a byte order mark as PowerShell writes it. Errors: InvalidRequestContent. */
export function decodeText(bytes: Uint8Array, file: string): string {
  if (bytes.length > MAX_JSON_BYTES)
    throw new KilnError(
      'InvalidRequestContent',
      `${file} has ${bytes.length} bytes; a template can have ${MAX_JSON_BYTES}.`,
      { target: file },
    );
  const encoding =
    bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : 'utf-8';
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new KilnError('InvalidRequestContent', `${file} is not text in ${encoding.toUpperCase()}.`, {
      target: file,
      hint: 'Save it as UTF-8.',
      cause,
    });
  }
}

/** Reads JSON. `file` is what errors call it. Errors: InvalidRequestContent, every one with line and column; several are its details. */
export function readJsonText(source: string, file: string, options: JsonTextOptions = {}): JsonText {
  const text = source.startsWith('\uFEFF') ? source.slice(1) : source;
  const lines = lineStarts(text);
  const positionAt = (offset: number): Position => position(lines, offset);
  const fail = (offset: number, sentence: string): KilnError => {
    const { line, column } = positionAt(offset);
    return new KilnError('InvalidRequestContent', `${file}:${line}:${column}: ${sentence}`, {
      target: `${file}:${line}:${column}`,
    });
  };

  const tooDeep = depthExceededAt(text);
  if (tooDeep !== undefined) throw fail(tooDeep, `nested more than ${MAX_JSON_DEPTH} levels deep`);
  const found: jsonc.ParseError[] = [];
  const tree = jsonc.parseTree(text, found, { allowTrailingComma: false, disallowComments: false });
  const errors = dedupe(found, offset => positionAt(offset).line).map(error =>
    fail(errorOffset(text, error), sentenceOf(text, error)),
  );
  if (!tree && errors.length === 0) errors.push(fail(text.length, 'the file is empty'));
  throwAll(errors);

  const places = new Map<string, number>();
  const duplicates: KilnError[] = [];
  const rewrite = options.rewrite ?? (one => one);
  const convert = (node: jsonc.Node, path: JsonPath, place: number): unknown => {
    places.set(formatPath(path), place);
    if (node.type === 'array')
      return (node.children ?? []).map((child, index) => convert(child, [...path, index], child.offset));
    if (node.type === 'string') return rewrite(node.value as string, path);
    if (node.type !== 'object') return node.value as unknown;
    const first = new Map<string, number>();
    const entries: [string, unknown][] = [];
    for (const member of node.children ?? []) {
      const [name, value] = member.children as [jsonc.Node, jsonc.Node];
      const key = rewrite(name.value as string, path);
      const earlier = first.get(key);
      if (earlier !== undefined)
        duplicates.push(
          fail(
            name.offset,
            `the property "${key}" stands here a second time; it is on line ${positionAt(earlier).line} already`,
          ),
        );
      else first.set(key, name.offset);
      entries.push([key, convert(value, [...path, key], name.offset)]);
    }
    return Object.fromEntries(entries);
  };
  const value = convert(tree!, [], tree!.offset);
  throwAll(duplicates);

  return {
    value,
    locate(path) {
      let segments = typeof path === 'string' ? (parsePath(path) ?? []) : path;
      for (;;) {
        const place = places.get(formatPath(segments));
        if (place !== undefined) return positionAt(place);
        segments = segments.slice(0, -1);
      }
    },
  };
}

function throwAll(errors: readonly KilnError[]): void {
  const first = errors[0];
  if (!first) return;
  if (errors.length === 1) throw first;
  throw new KilnError('InvalidRequestContent', first.message, { target: first.target!, details: errors });
}

/** Offset of the bracket that opens one level too many. The scanner is a loop; the parser recurses. */
function depthExceededAt(text: string): number | undefined {
  const scanner = jsonc.createScanner(text, true);
  let depth = 0;
  for (;;) {
    const token = scanner.scan() as number;
    if (token === TOKEN.end) return undefined;
    if (token === TOKEN.openBrace || token === TOKEN.openBracket) depth += 1;
    if (token === TOKEN.closeBrace || token === TOKEN.closeBracket) depth -= 1;
    if (depth > MAX_JSON_DEPTH) return scanner.getTokenOffset();
  }
}

/** jsonc-parser's SyntaxKind, a const enum that type stripping cannot read. */
const TOKEN = { openBrace: 1, closeBrace: 2, openBracket: 3, closeBracket: 4, end: 17 } as const;

/** One error for each line: the parser is tolerant, and one slip makes it complain several times. */
function dedupe(errors: readonly jsonc.ParseError[], lineOf: (offset: number) => number): jsonc.ParseError[] {
  const seen = new Set<number>();
  return errors
    .filter(error => !seen.has(lineOf(error.offset)) && seen.add(lineOf(error.offset)))
    .slice(0, MAX_SYNTAX_ERRORS);
}

const isTrailingComma = (text: string, error: jsonc.ParseError): RegExpMatchArray | null =>
  /^[}\]]/.test(text.slice(error.offset)) ? before(text, error.offset).match(/,$/) : null;

/** The text before an offset without the comments and blanks at its end. */
function before(text: string, offset: number): string {
  return jsonc.stripComments(text.slice(0, offset), ' ').trimEnd();
}

/** A comma too many is shown where it stands, not where the parser noticed. */
function errorOffset(text: string, error: jsonc.ParseError): number {
  if (isTrailingComma(text, error)) return before(text, error.offset).length - 1;
  return error.offset;
}

function sentenceOf(text: string, error: jsonc.ParseError): string {
  const next = text.slice(error.offset, error.offset + 1);
  const instead =
    next === ''
      ? 'the end of the file'
      : next === '\n' || next === '\r'
        ? 'the end of the line'
        : `'${text.slice(error.offset, error.offset + Math.max(1, Math.min(error.length, 20)))}'`;
  if (isTrailingComma(text, error)) return `a comma before the closing '${next}'; JSON has none there`;
  switch (jsonc.printParseErrorCode(error.error)) {
    case 'CommaExpected':
      return 'expected a comma between properties or items';
    case 'ColonExpected':
      return "expected a ':' after the property's name";
    case 'PropertyNameExpected':
      return `expected a property's name in double quotes, found ${instead}`;
    case 'ValueExpected':
      return `expected a value, found ${instead}`;
    case 'CloseBraceExpected':
      return `expected '}', found ${instead}`;
    case 'CloseBracketExpected':
      return `expected ']', found ${instead}`;
    case 'EndOfFileExpected':
      return `expected the end of the file after the value, found ${instead}`;
    case 'UnexpectedEndOfString':
      return 'this string has no closing quote on its line';
    case 'UnexpectedEndOfComment':
      return 'this comment is not closed';
    case 'UnexpectedEndOfNumber':
    case 'InvalidNumberFormat':
      return 'this is not a number';
    case 'InvalidUnicode':
      return 'this string has a bad \\u escape; it needs four hexadecimal digits';
    case 'InvalidEscapeCharacter':
      return 'this string has a bad escape; write a backslash as \\\\';
    case 'InvalidCharacter':
      return 'this string has a control character in it; write \\n or \\t';
    case 'InvalidSymbol':
      return `${instead} is not JSON; names and texts stand in double quotes, and words are true, false and null`;
    default:
      return `this is not JSON: ${instead}`;
  }
}

function lineStarts(text: string): readonly number[] {
  const starts = [0];
  for (const match of text.matchAll(/\r\n|\r|\n/g)) starts.push(match.index + match[0].length);
  return starts;
}

function position(starts: readonly number[], offset: number): Position {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (starts[middle]! <= offset) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: offset - starts[low]! + 1 };
}
