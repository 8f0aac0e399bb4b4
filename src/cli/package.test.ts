/** The package: what is emitted runs under plain node, and the lock file can be installed from. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COMPILER = join(ROOT, 'node_modules/typescript/bin/tsc');

test('the emitted package runs without type stripping', t => {
  const directory = mkdtempSync(join(tmpdir(), 'kiln-emit-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const emitted = spawnSync(
    process.execPath,
    [COMPILER, '-p', 'tsconfig.emit.json', '--noCheck', '--outDir', join(directory, 'dist')],
    {
      cwd: ROOT,
      encoding: 'utf8',
    },
  );
  assert.equal(emitted.status, 0, emitted.stdout);
  cpSync(join(ROOT, 'package.json'), join(directory, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  const kiln = (...args: string[]) =>
    spawnSync(process.execPath, ['--no-strip-types', join(directory, 'dist/cli/main.js'), ...args], {
      encoding: 'utf8',
    });
  const help = kiln('--help');
  assert.equal(help.status, 0, help.stderr);
  assert.match(help.stdout, /Usage: kiln/);
  const version = kiln('version', '--json');
  assert.equal(JSON.parse(version.stdout).kiln, JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version);
  // Every other module loads too: an import that was not rewritten shows here.
  const modules = (readdirSync(join(directory, 'dist'), { recursive: true }) as string[]).filter(
    path => path.endsWith('.js') && path !== 'cli/main.js',
  );
  const code = `for (const path of ${JSON.stringify(modules)}) await import(${JSON.stringify(`${directory}/dist/`)} + path);`;
  const loaded = spawnSync(process.execPath, ['--no-strip-types', '--input-type=module', '-e', code], {
    encoding: 'utf8',
  });
  assert.equal(loaded.status, 0, loaded.stderr);
});

test('the lock file has every optional package, also of other platforms, or npm ci refuses it', () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  const wanted = Object.values(packages).flatMap(entry => Object.keys(entry.optionalDependencies ?? {}));
  assert.ok(wanted.length > 0);
  assert.deepEqual(
    wanted.filter(name => !(`node_modules/${name}` in packages)),
    [],
  );
});
