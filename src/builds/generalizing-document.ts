/** Writes `docs/generalizing.md` from the table of traces: `node src/builds/generalizing-document.ts`. A test fails when the two differ. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TRACES, type Trace } from './traces.ts';

const code = (paths: readonly string[]): string => paths.map(path => `\`${path}\``).join(' ');

function treatment({ removed, emptied, kept, told, otherwise }: Trace): string {
  return [
    ...(otherwise === undefined ? [] : [otherwise]),
    ...(removed ? [`removed: ${code(removed)}`] : []),
    ...(emptied ? [`emptied: ${code(emptied)}`] : []),
    ...(kept ? [`kept, such as ${code(kept)}`] : []),
    ...(told ? [`kept, and told of in the log: ${code(told)}`] : []),
  ].join('; ');
}

/** The whole document, as it stands in docs/. */
export function renderGeneralizing(): string {
  return `${[
    '# Generalizing',
    '',
    'Generated from `src/builds/traces.ts` by `node src/builds/generalizing-document.ts`; change it there.',
    '',
    'After the last customizer the image is generalized, in the machine that it was built in:',
    '',
    "1. The template's `/tmp/DeprovisioningScript.sh` runs, as root, by `sh`. Where no step has written one, the image's own agent does what Azure's default does:",
    '   `/usr/sbin/waagent -force -deprovision+user` (looked for in `PATH`, `/usr/sbin` and `/usr/bin`; by `python3 -u` where its own first line names an interpreter',
    '   that is not there). An image with cloud-init alone, or with neither, is built all the same, and the log says what is missing.',
    '2. Then, whichever it was, Kiln removes what the table says, the build user, and its own key from root’s. An override cannot forget them.',
    '3. Where SELinux is on in the image, files that have no label get theirs (`setfiles`; `/.autorelabel` where that fails).',
    '',
    'The rule behind the table: what a machine makes by running goes. What only a deliberate act makes stays, because a template may have done it on purpose; where it is',
    'one machine’s identity, the log says that all machines made from the image will share it. A step, or `/tmp/DeprovisioningScript.sh`, can remove more.',
    '',
    'The names are those of virt-sysprep’s operations; those that it leaves alone by default are in brackets.',
    '',
    '| operation | what Kiln does | why |',
    '|---|---|---|',
    ...TRACES.map(trace => {
      const name = trace.operation ?? 'beyond virt-sysprep';
      return `| ${trace.optional ? `(${name})` : name} | ${treatment(trace)} | ${trace.why} |`;
    }),
  ].join('\n')}\n`;
}

export const GENERALIZING_DOCUMENT = fileURLToPath(new URL('../../docs/generalizing.md', import.meta.url));

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(GENERALIZING_DOCUMENT, renderGeneralizing());
