/** How Kiln writes to people: colour, tables, sizes, times, and errors. Errors are rendered here and nowhere else. */
import { stripVTControlCharacters, styleText } from 'node:util';
import { asKilnError, ERRORS, errorBody, type KilnError } from '../arm/errors.ts';

export type Colour = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Colours a text when `stream` is a terminal that shows colours; NO_COLOR and FORCE_COLOR are obeyed. */
export function paint(colour: Colour, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(colour, text, { stream });
}

/** Columns of a terminal; 80 when nobody knows. */
export function terminalWidth(stream: NodeJS.WriteStream = process.stdout): number {
  return stream.columns > 0 ? stream.columns : 80;
}

/**
 * A text from outside (guest output, a file name, a server's answer) made safe to print: no escape sequences, no
 * control characters but tab and newline, so that it cannot move the cursor or rename the window.
 */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** A size for people: `0 B`, `1.5 KiB`, `750 MiB`. Three digits at most, binary units. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (unit < UNITS.length - 1 && Math.round(value) >= 1000) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits).replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** A duration for people, from milliseconds: `0.4 s`, `42 s`, `3 min 05 s`, `1 h 02 min`. */
export function duration(milliseconds: number): string {
  const tenths = Math.round(Math.max(0, milliseconds) / 100);
  if (tenths < 100) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.round(Math.max(0, milliseconds) / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (value: number) => String(value).padStart(2, '0');
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}

export interface TableOptions {
  /** Columns (from 0) whose cells stand at the right: numbers, times. */
  readonly right?: readonly number[];
}

/** Rows as aligned lines, two spaces between columns, no space at the end of a line; each line ends with a newline. */
export function table(rows: readonly (readonly string[])[], options: TableOptions = {}): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, textWidth(cell));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => {
        const padding = ' '.repeat(widths[column]! - textWidth(cell));
        return options.right?.includes(column) ? padding + cell : cell + padding;
      })
      .join('  ')
      .trimEnd();
  return rows.map(row => `${line(row)}\n`).join('');
}

/** Columns that a text takes: colours take none. Wide scripts count as one; names of the field are ASCII. */
export function textWidth(text: string): number {
  return [...stripVTControlCharacters(text)].length;
}

/** An error for people: what, where, each detail with its path, what to do. Ends with a newline. */
export function renderError(error: unknown, stream: NodeJS.WriteStream = process.stderr): string {
  const known = asKilnError(error);
  const { details } = known;
  // Where several things are wrong, the first of them is the message (contract 2.1.1): people need not read it twice.
  const echoed = details[0]?.message === known.message;
  if (echoed && details.length > 1)
    return [
      `${paint('red', 'error:', stream)} ${details.length} problems:`,
      ...details.flatMap(detail => detailLines(detail, '  ')),
      '',
    ].join('\n');
  const lines = [`${paint('red', 'error:', stream)} ${printable(known.message)}`];
  if (known.target !== undefined) lines.push(`  at: ${printable(known.target)}`);
  for (const detail of echoed ? [] : details) lines.push(...detailLines(detail, '  '));
  if (known.code === 'InternalError')
    lines.push(
      '  This is a defect of Kiln, not of what you typed.',
      process.env.KILN_DEBUG === '1' ? stackOf(known) : '  hint: KILN_DEBUG=1 prints the details; please report them.',
    );
  else lines.push(`  ${paint('cyan', 'hint:', stream)} ${printable(known.hint ?? ERRORS[known.code].remedy)}`);
  if (known.code !== 'InternalError' && process.env.KILN_DEBUG === '1') lines.push(stackOf(known));
  return `${lines.join('\n')}\n`;
}

function detailLines(detail: KilnError, indent: string): string[] {
  const where = detail.target === undefined ? '' : `${printable(detail.target)}: `;
  return [
    `${indent}- ${where}${printable(detail.message)}`,
    ...(detail.hint === undefined ? [] : [`${indent}    ${printable(detail.hint)}`]),
    ...detail.details.flatMap(inner => detailLines(inner, `${indent}  `)),
  ];
}

function stackOf(error: KilnError): string {
  const cause = error.cause instanceof Error ? error.cause : error;
  return printable(cause.stack ?? String(cause)).replace(/^/gm, '  ');
}

/** An error for machines: `{"error":{"code":…,"message":…}}`, one line. */
export function renderErrorJson(error: unknown): string {
  return `${JSON.stringify({ error: errorBody(error) })}\n`;
}
