import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { ConsoleLog } from './console-log.ts';

const directory = await mkdtemp(path.join(os.tmpdir(), 'kiln-console-log-'));
after(() => rm(directory, { recursive: true, force: true }));
let number = 0;
const fresh = () => path.join(directory, String(++number));

test('a console without end keeps its beginning and its end', async () => {
  const limits = { most: 4000, first: 1000, last: 500 };
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 10, maxLength: 60 }), async lengths => {
      const file = fresh();
      const log = ConsoleLog.open(file, { limits });
      let said = '';
      for (const length of lengths) {
        const text = Array.from({ length }, (_, i) => String((said.length + i) % 10)).join('');
        log.write(Buffer.from(text));
        said += text;
      }
      log.close();
      const kept = await readFile(file, 'latin1');
      assert.ok(kept.length <= limits.most);
      assert.ok(kept.endsWith(said.slice(-limits.last)) || kept === said);
      if (lengths.every(length => length <= limits.last)) {
        assert.ok(kept.startsWith(said.slice(0, limits.first)));
        assert.equal(kept.includes('[Kiln has left out'), kept !== said);
      }
    }),
    { numRuns: 30 },
  );
});

test('what its filter takes out is not in the file, and what has waited is there when it is closed', async () => {
  const file = fresh();
  let waiting = '';
  const filter = {
    push(chunk: Buffer) {
      const all = waiting + chunk;
      waiting = all.slice(-3);
      return Buffer.from(all.slice(0, -3).toUpperCase());
    },
    end: () => Buffer.from(waiting),
  };
  const log = ConsoleLog.open(file, { filter });
  const heard: string[] = [];
  log.onLastWords = which => heard.push(which);
  log.write(Buffer.from('Kernel panic - '));
  log.write(Buffer.from('not syncing: end'));
  assert.deepEqual(heard, ['panic']);
  assert.equal(await readFile(file, 'utf8'), 'KERNEL PANIC - NOT SYNCING: ');
  log.close();
  log.close();
  assert.equal(await readFile(file, 'utf8'), 'KERNEL PANIC - NOT SYNCING: end');
});

test('last words are heard once each, wherever they are cut', () => {
  const text =
    'BdsDxe: No bootable option or device was found.\n[ 1.0] Kernel panic - not syncing: Attempted to kill init! Kernel panic - not syncing';
  for (let cut = 0; cut < text.length; cut++) {
    const log = ConsoleLog.open('/dev/null');
    const heard: string[] = [];
    log.onLastWords = which => heard.push(which);
    log.write(Buffer.from(text.slice(0, cut)));
    log.write(Buffer.from(text.slice(cut)));
    log.write(Buffer.from(text));
    log.close();
    assert.deepEqual(heard.sort(), ['nothingToBoot', 'panic']);
  }
});
