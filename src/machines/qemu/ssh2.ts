/** The library that speaks SSH, read when the first machine needs it: a build that starts none is half through before it would have been. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export const ssh2 = (): typeof import('ssh2') => require('ssh2');
