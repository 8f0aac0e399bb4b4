import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from '../../processes/process.ts';
import { namesScript } from './disk-names.ts';

test('each unit and its partitions have a rule of their own, which fits no other unit', async () => {
  const script = namesScript([1, 11]);
  const rules = script.split('\n').filter(line => line.startsWith('SUBSYSTEM'));
  assert.equal(rules.length, 4);
  for (const lun of [1, 11]) {
    const own = rules.filter(rule => rule.includes(`KERNELS=="*:0:0:${lun}"`));
    assert.deepEqual(
      own.map(rule => /SYMLINK\+="(.*)"/.exec(rule)![1]),
      [`disk/azure/scsi1/lun${lun}`, `disk/azure/scsi1/lun${lun}-part%n`],
    );
  }
  // No image has them.
  assert.match(script, /cat > \/run\//);
  await run('sh', ['-n'], { input: script });
});
