/**
 * The way into a guest that has just been resumed, before it has this run's keys, and into one whose build user is gone: a virtio-serial port, with a root process
 * behind it, the attendant, that runs what it is told. Only QEMU's other end, which is Kiln, can write to the port. What comes out of it is untrusted bytes.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { KilnError } from '../../arm/errors.ts';
import { aborted } from './aborted.ts';
import { RENEWAL_PORT } from './command-line.ts';
import { ALLOW_COMMANDS, START_COMMANDS } from './commands-attendant.ts';
import { oneLine } from './loss.ts';

/** What is told of a script that failed. */
const LAST_WORDS = 1000;

/** When the attendant has not answered for so long (ms), it is not there. */
const PATIENCE = 30_000;

/** The service that the process is, as the guest shows it. */
const UNIT = 'kiln-renewal';

/**
 * One line in, a mark and how many bytes of a script follow; out come what the script says, as it says it, and a line with the mark and its exit status. While nobody is
 * on the other end, reads come back empty. Processes are dear in an emulated guest, and reading a line takes a system call for each of its bytes: an empty script takes no
 * process, and no script is read by the shell itself.
 */
const ATTENDANT = `
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = ${RENEWAL_PORT} ] && break
done
exec 3<>"/dev/\${port##*/}" || exit 1
while :; do
  read -r mark size <&3 || { sleep 0.2; continue; }
  status=0
  # All of it first: a script may end before it was read.
  script=
  [ "$size" = 0 ] || script=$(head -c "$size" <&3)
  [ -z "$script" ] || { printf %s "$script" | sh >&3 2>&1 3>&-; status=$?; }
  printf '\\n%s %s\\n' "$mark" "$status" >&3
done
`;

/**
 * Starts it, as a service that is in no file and ends with the machine, and the build user's own ({@link START_COMMANDS}). To be run by the build user; again does no harm. In base64 because systemd would put its own
 * variables into the text. Timers end here, for the life of this machine: after a resume they would make up for all that they slept through, with the package manager's
 * lock in their hands, and starting them again then takes an emulated guest longer than the rest of the resume.
 */
export const START_ATTENDANT = `sudo -n sh -c '
modprobe -q virtio_console
systemctl -q is-active ${UNIT} || {
  systemctl stop "*.timer"
  systemd-run --quiet --collect --unit=${UNIT} --description="Kiln: renewal after a resume" sh -c "eval \\"\\$(echo ${Buffer.from(ATTENDANT).toString('base64')} | base64 -d)\\"" || exit
}
${ALLOW_COMMANDS}
' && ${START_COMMANDS}`;

type Sink = (chunk: Buffer) => void;

/** A script that the guest was given. */
interface Asked {
  readonly mark: string;
  readonly output: Sink;
  readonly ended: (status: number) => void;
}

const MARK_BYTES = 16;
/** A mark's line, with the end of the line before it. No status has more digits than that leaves room for. */
const MOST_OF_A_MARK = MARK_BYTES * 2 + 16;

export class RenewalPort {
  readonly #stream: Duplex;
  readonly #patience: number;
  /** What may be the beginning of a mark's line. */
  #rest = Buffer.alloc(0);
  /** In the order in which the guest runs them; also those that nobody waits for any more. */
  #asked: Asked[] = [];
  #last: Promise<unknown> = Promise.resolve();
  /** Of the attendant's end of the port. */
  #closed = new AbortController();
  /** Whether the attendant was there when it was last looked for. */
  attended = false;

  constructor(stream: Duplex, patience = PATIENCE) {
    this.#stream = stream;
    this.#patience = patience;
    stream.on('data', (bytes: Buffer) => this.#hear(bytes));
  }

  /** Whether the attendant is there, who was there before: a step may have ended it. Rejects with the signal's reason. */
  async answers(signal: AbortSignal): Promise<boolean> {
    const late = AbortSignal.timeout(this.#patience);
    const closed = this.#closed.signal;
    try {
      if (this.attended) await this.ping(AbortSignal.any([signal, late, closed]));
    } catch (error) {
      if (error !== late.reason && error !== closed.reason) throw error;
    }
    return this.attended;
  }

  /** To be called when the guest has closed its end. What it was told to run may go on. */
  lost(): void {
    this.attended = false;
    this.#closed.abort();
    this.#closed = new AbortController();
  }

  /** Resolves when the attendant has answered. Rejects as {@link run} does. */
  ping(signal: AbortSignal): Promise<void> {
    return this.run('', signal);
  }

  /** Runs a script as root, behind those that it was given before. Rejects with GuestUnreachable when it fails, or the signal's reason. */
  async run(script: string, signal: AbortSignal): Promise<void> {
    let said = '';
    const status = await this.ask(script, signal, chunk => {
      said = (said + chunk.toString('utf8')).slice(-LAST_WORDS);
    });
    if (status === 0) return;
    throw new KilnError('GuestUnreachable', `A script in the guest ended with ${status}: ${oneLine(said)}`);
  }

  /**
   * Runs a script as root's sh, behind those that it was given before; what it says on either stream is handed on as it comes.
   * @returns its exit status. Rejects with the signal's reason: the script may go on then
   */
  ask(script: string, signal: AbortSignal, output: Sink): Promise<number> {
    const turn = this.#last.then(() => this.#ask(Buffer.from(script), signal, output));
    this.#last = turn.catch(() => {});
    return aborted(turn, signal);
  }

  async #ask(script: Buffer, signal: AbortSignal, output: Sink): Promise<number> {
    signal.throwIfAborted();
    // Whoever works in the guest may have ended it.
    this.attended = false;
    const mark = randomBytes(MARK_BYTES).toString('hex');
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const leave = () => reject(signal.reason as Error);
    signal.addEventListener('abort', leave, { once: true });
    this.#asked.push({ mark, output: chunk => void (signal.aborted || output(chunk)), ended: resolve });
    this.#stream.write(Buffer.concat([Buffer.from(`${mark} ${script.length}\n`), script]));
    try {
      const status = await promise;
      this.attended = true;
      return status;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  #hear(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const found = this.#endOfAScript();
      if (!found) break;
      const { index, at, end, status } = found;
      const { output, ended } = this.#asked[index]!;
      if (at > 0) output(this.#rest.subarray(0, at));
      this.#rest = this.#rest.subarray(end);
      // Those before it ended without a word, with the attendant that they were given to.
      this.#asked = this.#asked.slice(index + 1);
      ended(status);
    }
    const said = this.#rest.subarray(0, this.#torn());
    this.#rest = this.#rest.subarray(said.length);
    if (said.length > 0) this.#asked[0]?.output(said);
  }

  /** Where the beginning of a mark's line is that has yet to come whole; the end where there is none. */
  #torn(): number {
    const at = this.#rest.lastIndexOf('\n');
    const tail = this.#rest.subarray(at).toString('latin1');
    const begins = ({ mark }: Asked) => tail.startsWith(`\n${mark} `.slice(0, tail.length));
    return at !== -1 && tail.length <= MOST_OF_A_MARK && this.#asked.some(begins) ? at : this.#rest.length;
  }

  #endOfAScript() {
    for (const [index, { mark }] of this.#asked.entries()) {
      const at = this.#rest.indexOf(`\n${mark} `);
      if (at === -1) continue;
      const end = this.#rest.indexOf('\n', at + 1);
      if (end === -1) return undefined;
      const status = Number(this.#rest.toString('latin1', at + mark.length + 2, end));
      return { index, at, end: end + 1, status: Number.isInteger(status) ? status : 255 };
    }
    return undefined;
  }
}
