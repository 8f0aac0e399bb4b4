/** XML bodies of the blob service, read into elements in their order. Untrusted: no document types, so no entities but XML's own. */
import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { BlobError } from './blob-errors.ts';

export interface Element {
  readonly name: string;
  /** Of the element itself, trimmed. */
  readonly text: string;
  readonly children: readonly Element[];
}

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: true,
  ignoreDeclaration: true,
  ignorePiTags: true,
  parseTagValue: false,
  trimValues: true,
});

const MOST_DEPTH = 16;
/** A list of 50,000 blocks has two tags for each. Reading takes time for each mark of markup, in which nobody else is answered. */
const MOST_TAGS = 2 * 50_000 + 1000;
const MOST_OTHER_MARKS = 20_000;

/** The root element. Errors: InvalidXmlDocument. */
export function readXml(text: string): Element {
  const invalid = () => new BlobError(400, 'InvalidXmlDocument', 'XML specified is not syntactically valid.');
  const source = text.replace(/^\ufeff/, '');
  if (count(source, '<') > MOST_TAGS || ['&', '"', "'"].some(mark => count(source, mark) > MOST_OTHER_MARKS))
    throw invalid();
  if (/<!(DOCTYPE|ENTITY)/i.test(source) || XMLValidator.validate(source) !== true) throw invalid();
  const [root, ...others] = elementsOf(nodesOf(source, invalid), 0, invalid);
  if (!root || others.length > 0) throw invalid();
  return root;
}

function count(text: string, mark: string): number {
  let found = 0;
  for (let at = text.indexOf(mark); at !== -1; at = text.indexOf(mark, at + 1)) found += 1;
  return found;
}

type Node = Readonly<Record<string, unknown>>;

/** The parser has limits of its own: for depth, for names that JavaScript has another use for. */
function nodesOf(source: string, invalid: () => Error): readonly Node[] {
  try {
    return parser.parse(source) as readonly Node[];
  } catch {
    throw invalid();
  }
}

function elementsOf(nodes: readonly Node[], depth: number, invalid: () => Error): Element[] {
  if (depth > MOST_DEPTH) throw invalid();
  return nodes.flatMap(node => {
    const name = Object.keys(node).find(key => key !== ':@' && key !== '#text');
    if (name === undefined) return [];
    const inside = node[name] as readonly Node[];
    const text = inside.map(child => ('#text' in child ? String(child['#text']) : '')).join('');
    return [{ name, text, children: elementsOf(inside, depth + 1, invalid) }];
  });
}

export const child = (element: Element, name: string): Element | undefined =>
  element.children.find(one => one.name === name);

export const childText = (element: Element, name: string): string | undefined => child(element, name)?.text;
