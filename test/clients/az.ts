/** The Azure CLI as it is installed, signed in to a server of the tests. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/processes/process.ts';
import type { Served } from './served.ts';

export interface AzOutcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

// biome-ignore lint/suspicious/noExplicitAny: what a client prints has no type; every field is asserted.
export type Printed = any;

export interface Az {
  /** Runs it to its end, whatever that is. */
  run(...args: string[]): Promise<AzOutcome>;
  /** What it prints as JSON; undefined where it prints nothing. Fails when it ends with anything but 0. */
  json(...args: string[]): Promise<Printed>;
  /** Asserts its exit code (1: an error of the server, 3: not found, 2: of the command line) and what it says on standard error. */
  fails(exitCode: number, said: RegExp, ...args: string[]): Promise<void>;
  /** Writes JSON to a file of the test's and returns `path`. */
  file(content: unknown): Promise<string>;
}

export function azOf(served: Served): Az {
  const command = async (args: readonly string[]) =>
    await run('az', args, { env: served.env, ok: [0, 1, 2, 3], cwd: served.home });
  return {
    run: (...args) => command(args),
    async json(...args) {
      const { exitCode, stdout, stderr } = await command([...args, '--output', 'json']);
      assert.equal(exitCode, 0, `az ${args.join(' ')}\n${stderr}\n${served.printed()}`);
      return stdout.trim() === '' ? undefined : JSON.parse(stdout);
    },
    async fails(exitCode, said, ...args) {
      const outcome = await command(args);
      const context = `az ${args.join(' ')}\n${outcome.stdout}\n${outcome.stderr}`;
      assert.equal(outcome.exitCode, exitCode, context);
      assert.match(outcome.stderr, said, context);
    },
    async file(content) {
      const path = join(served.home, `${randomBytes(6).toString('hex')}.json`);
      await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content, null, 2));
      return path;
    },
  };
}
