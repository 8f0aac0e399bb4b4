/** A part of the template reference: a heading, and a text for each property. */

/** What Kiln does with it; and, where that is not what Azure does, what is different and why. */
export type Text = readonly [does: string, differs?: string];

export interface Section {
  readonly title: string;
  readonly intro?: string;
  readonly rows: Readonly<Record<string, Text>>;
}

/** The same text for members that several kinds of a thing have: `{ 'a(X).name': text, 'a(Y).name': text }`. */
export function ofKinds(
  place: string,
  kinds: readonly string[],
  rows: Readonly<Record<string, Text>>,
): Record<string, Text> {
  return Object.fromEntries(
    kinds.flatMap(kind => Object.entries(rows).map(([name, text]) => [`${place}(${kind}).${name}`, text] as const)),
  );
}
