/** Where something stands in a JSON document, as segments and as people write it: `properties.distribute[0].runOutputName`. */

export type JsonPath = readonly (string | number)[];

const PLAIN_NAME = /^[A-Za-z_$][\w$-]*$/;

export function formatPath(path: JsonPath): string {
  let text = '';
  for (const segment of path) {
    if (typeof segment === 'number') text += `[${segment}]`;
    else if (PLAIN_NAME.test(segment)) text += text === '' ? segment : `.${segment}`;
    else text += `['${segment.replace(/[\\']/g, '\\$&')}']`;
  }
  return text;
}

/** The reverse of {@link formatPath}; undefined when the text is no path. */
export function parsePath(text: string): JsonPath | undefined {
  const path: (string | number)[] = [];
  const token = /\.?([A-Za-z_$][\w$-]*)|\[(\d+)\]|\['((?:[^\\']|\\.)*)'\]/suy;
  while (token.lastIndex < text.length) {
    const match = token.exec(text);
    if (!match) return undefined;
    if (match[1] !== undefined) path.push(match[1]);
    else if (match[2] !== undefined) path.push(Number(match[2]));
    else path.push(match[3]!.replace(/\\(.)/gsu, '$1'));
  }
  return path;
}
