/** Writes `docs/errors.md` from the error catalogue: `node src/arm/errors-document.ts`. A test fails when the two differ. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ERRORS, type ErrorClass, EXIT_CODES } from './errors.ts';

const CLASSES: Readonly<Record<ErrorClass, string>> = {
  internal: 'Kiln is at fault',
  usage: 'The command line, a request or a template is wrong',
  source: 'A source image, script or file cannot be used',
  build: 'The build failed',
  host: 'This machine lacks something',
  conflict: 'Something else is in the way',
  timeout: 'It took too long',
  denied: 'Who calls is unknown, or may not do it',
  canceled: 'Canceled (128 + SIGINT, as shells have it)',
};

const cell = (text: string): string => text.replaceAll('|', '\\|');

/** The whole document, as it stands in docs/. */
export function renderErrors(): string {
  const lines = [
    '# Errors',
    '',
    'Generated from `src/arm/errors.ts` by `node src/arm/errors-document.ts`; change it there.',
    '',
    'Every error has a code that means one thing everywhere: on the terminal, in `--json`, in the database and in answers of the API.',
    '`kiln` ends with the exit code of the class of the error; 0 means that all went well.',
    '',
    '| exit code | class | meaning |',
    '|---|---|---|',
    ...Object.entries(EXIT_CODES).map(([name, code]) => `| ${code} | ${name} | ${CLASSES[name as ErrorClass]} |`),
  ];
  for (const [name, code] of Object.entries(EXIT_CODES)) {
    lines.push('', `## ${CLASSES[name as ErrorClass]} (exit code ${code})`, '');
    lines.push('| code | HTTP | when | what to do |', '|---|---|---|---|');
    for (const [errorCode, entry] of Object.entries(ERRORS))
      if (entry.class === name)
        lines.push(`| ${errorCode} | ${entry.status} | ${cell(entry.when)} | ${cell(entry.remedy)} |`);
  }
  return `${lines.join('\n')}\n`;
}

export const ERRORS_DOCUMENT = fileURLToPath(new URL('../../docs/errors.md', import.meta.url));

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(ERRORS_DOCUMENT, renderErrors());
