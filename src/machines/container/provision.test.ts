import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import type { Provisioning } from '../machine.ts';
import { provisionScript } from './provision.ts';

/** How useradd is called in an image where 1000 is free, or taken. Nothing else of the script runs here: `command` finds nothing. */
function useradd(provisioning: Provisioning, taken: boolean): string {
  const [script] = provisionScript('kiln', provisioning).split('passwd --lock');
  const played = `command() { return 1; }; getent() { return ${taken ? 0 : 2}; }; useradd() { echo "$*"; }\n${script}`;
  return execFileSync('sh', ['-s'], { input: played, encoding: 'utf8' }).trim();
}

test('the build user has the number that it has in a virtual machine', () => {
  const all = '--create-home --shell /bin/bash --comment Kiln build user kiln';
  const without = '--key SUB_UID_COUNT=0 --key SUB_GID_COUNT=0';
  assert.equal(useradd('systemd-credentials', false), `${without} --uid 1000 ${all}`);
  assert.equal(useradd('systemd-credentials', true), `${without} ${all}`);
  // useradd chooses, as it does for cloud-init.
  assert.equal(useradd('cloud-init', false), all);
});
