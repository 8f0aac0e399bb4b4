/** Writes `docs/template-reference.md` from the schema and the texts: `node src/providers/image-builder/reference/document.ts`. A test fails when the two differ. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { IMAGE_BUILDER_API_VERSIONS } from '../api-versions.ts';
import { type TemplateProperty, templateProperties } from './properties.ts';
import type { Section } from './section.ts';
import { LEFT_OUT, SECTIONS } from './texts.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|');

/** The whole document, as it stands in docs/. */
export function renderReference(): string {
  const properties = templateProperties();
  const versions = IMAGE_BUILDER_API_VERSIONS.toReversed().join(', ');
  const lines = [
    '# Image templates: every property',
    '',
    'Generated from the schema in `src/providers/image-builder/` and the texts beside it by `node src/providers/image-builder/reference/document.ts`; change it there.',
    '',
    `The api-versions: ${versions}.`,
    '"Since" is the first of them that knows the property; what the oldest knows, Azure may have had before. Until 2023-07-01 names are taken in any casing, and what is not known is ignored with a',
    'warning; from 2024-02-01 on both are refused. Paths: `[]` is each of a list, `(Shell)` the kind that its `type` names, `.*` each of a map.',
  ];
  for (const section of SECTIONS) lines.push('', ...render(section, properties));
  lines.push('', '## What is not there', '', ...LEFT_OUT.map(text => `- ${text}`));
  return `${lines.join('\n')}\n`;
}

function render({ title, intro, rows }: Section, properties: readonly TemplateProperty[]): string[] {
  return [
    `## ${title}`,
    '',
    ...(intro === undefined ? [] : [intro, '']),
    '| property | type | since | what Kiln does with it | different from Azure, and why |',
    '|---|---|---|---|---|',
    // In the order of the schema: what belongs together stands together.
    ...properties.flatMap(property => {
      const { path } = property;
      if (!Object.hasOwn(rows, path)) return [];
      const [does, differs = ''] = rows[path]!;
      const name = `\`${path.replace(/^properties\./, '')}\``;
      return [`| ${[name, typeOf(property), property.since, does, differs].map(cell).join(' | ')} |`];
    }),
  ];
}

function typeOf({ type, required, readOnly }: TemplateProperty): string {
  if (readOnly) return 'read-only';
  return required ? `${type}, required` : type;
}

export const REFERENCE_DOCUMENT = fileURLToPath(new URL('../../../../docs/template-reference.md', import.meta.url));

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(REFERENCE_DOCUMENT, renderReference());
