/** `kiln serve` as people run it: a process of its own with a state directory of the test's own, and the environment that `kiln env` gives its clients. */
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, KILN, type Outcome, start, temporaryHome } from '../kiln.ts';

export interface Served {
  readonly home: string;
  /** `https://…`, without a slash at its end. */
  readonly origin: string;
  /** What a shell has after `eval "$(./kiln env)"`, with nothing of the tests' own environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Everything that the server has printed so far. */
  printed(): string;
  /** SIGTERM, as an init system sends it. Resolves when the process has ended; the state directory is gone then. */
  stop(): Promise<Outcome>;
}

/** Only what a login shell has: nothing that the tests' own process was given may be what makes a client work. */
const LOGIN = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };

/** Starts a server on a free port and signs a shell in. */
export async function serve(args: readonly string[] = []): Promise<Served> {
  const home = await temporaryHome();
  const running = start(['--home', home.path, 'serve', '--port', '0', ...args], { KILN_CACHE: cacheDirectory() });
  let printed = '';
  running.child.stderr?.on('data', text => {
    printed += text;
  });
  const stop = async () => {
    running.child.kill('SIGTERM');
    const outcome = await running.ended;
    await home.remove();
    return outcome;
  };
  try {
    const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
    return { home: home.path, origin, env: await clientEnvironment(home.path), printed: () => printed, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** What a shell of nobody in particular has after `eval "$(./kiln env)"`. */
export async function clientEnvironment(home: string): Promise<Readonly<Record<string, string>>> {
  // HOME: what a person's own az remembers must neither help nor be changed.
  const login = { ...LOGIN, HOME: home, AZURE_CORE_COLLECT_TELEMETRY: 'false' };
  const script = 'settings=$("$0" --home "$1" env) && eval "$settings" && env -0';
  const { stdout } = await run('bash', ['-c', script, KILN, home], { env: login });
  const entries = stdout.split('\0').flatMap(line => {
    const at = line.indexOf('=');
    return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : [];
  });
  return Object.fromEntries(entries);
}
