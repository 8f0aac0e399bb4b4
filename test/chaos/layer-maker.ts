/**
 * Keeps a layer in the store, takes one into a directory, or removes one, and dies by kill -9 right before or after its Nth call of the file system. Started by
 * layers.test.ts. Arguments: `keep`, `take` or `remove`; cache directory; file to keep, or directory to take into; id of the layer; N.
 */
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const [work = '', cache = '', file = '', id = '', deadly = ''] = process.argv.slice(2);
let calls = 0;
let counting = false;
const tick = () => {
  if (counting && ++calls === Number(deadly)) process.kill(process.pid, 'SIGKILL');
};
const functions = fs as unknown as Record<string, unknown>;
for (const name of ['mkdir', 'link', 'chmod', 'stat', 'open', 'rename', 'rm', 'writeFile', 'utimes']) {
  const real = functions[name] as (...args: unknown[]) => Promise<unknown>;
  functions[name] = async (...args: unknown[]) => {
    tick();
    const result = await real(...args);
    tick();
    return result;
  };
}
syncBuiltinESMExports();
const { openLayerStore } = await import('../../src/builds/layers/store.ts');
const store = await openLayerStore(cache);
counting = true;
const key = 'a'.repeat(64);
if (work === 'keep')
  await store.keep({
    ...{ key, id, parent: undefined, name: 'boot x', runId: 'run', seconds: 1, facts: {} },
    files: { 'layer-1.qcow2': file, 'memory-1': file },
  });
else if (work === 'take') await store.take((await store.look(key))!, file);
else await store.remove(key);
process.stdout.write('done');
