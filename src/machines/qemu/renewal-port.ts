/**
 * The way into a guest that has just been resumed, before it has this run's keys, and into one whose build user is gone: a virtio-serial port, with a root process
 * behind it, the attendant, that runs what it is told. Only QEMU's other end, which is Kiln, can write to the port. What comes out of it is untrusted bytes.
 */
import type { Duplex } from 'node:stream';
import { KilnError } from '../../arm/errors.ts';
import { aborted } from './aborted.ts';
import { RENEWAL_PORT } from './command-line.ts';
import { oneLine } from './loss.ts';

/** More than an answer ever has: an exit status, and the last words of a script. */
const ANSWER_LIMIT = 8192;

/** The service that the process is, as the guest shows it. */
const UNIT = 'kiln-renewal';

/** One line in, a number and a script in base64; one line out, the number, its exit status and what it said, in base64. While nobody is on the other end, reads come back empty. A byte at a time: the next line belongs to the next turn. Processes are dear in an emulated guest: an empty script takes none. */
const ATTENDANT = `
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = ${RENEWAL_PORT} ] && break
done
exec 3<>"/dev/\${port##*/}" || exit 1
while :; do
  read -r number script <&3 || { sleep 0.2; continue; }
  said= status=0
  if [ -n "$script" ]; then
    said=$(printf %s "$script" | base64 -d | sh 2>&1)
    status=$?
    [ -z "$said" ] || said=$(printf %s "$said" | tail -c 1000 | base64 -w 0)
  fi
  printf '%s %s %s\\n' "$number" "$status" "$said" >&3
done
`;

/**
 * Starts it, as a service that is in no file and ends with the machine. To be run by the build user; again does no harm. In base64 because systemd would put its own
 * variables into the text. Timers end here, for the life of this machine: after a resume they would make up for all that they slept through, with the package manager's
 * lock in their hands, and starting them again then takes an emulated guest longer than the rest of the resume.
 */
export const START_ATTENDANT = `sudo -n sh -c '
modprobe -q virtio_console
systemctl -q is-active ${UNIT} && exit
systemctl stop "*.timer"
exec systemd-run --quiet --collect --unit=${UNIT} --description="Kiln: renewal after a resume" sh -c "echo ${Buffer.from(ATTENDANT).toString('base64')} | base64 -d | sh -s"
'`;

export class RenewalPort {
  readonly #stream: Duplex;
  #rest = '';
  #answered: ((answer: readonly string[]) => void) | undefined;
  #last: Promise<void> = Promise.resolve();
  #asked = 0;
  /** Whether the attendant was there when it was last looked for. */
  attended = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.setEncoding('latin1');
    stream.on('data', (text: string) => this.#hear(text));
  }

  /** Whether the attendant is there: resolves when it has answered. Rejects as {@link run} does. */
  ping(signal: AbortSignal): Promise<void> {
    return this.run('', signal);
  }

  /** Runs a script as root, behind those that it was given before. Rejects with GuestUnreachable when it fails, or the signal's reason. */
  run(script: string, signal: AbortSignal): Promise<void> {
    const turn = this.#last.then(() => this.#ask(script, signal));
    this.#last = turn.catch(() => {});
    return aborted(turn, signal);
  }

  async #ask(script: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    // Whoever works in the guest may have ended it.
    this.attended = false;
    const number = ++this.#asked;
    const answer = new Promise<readonly string[]>((resolve, reject) => {
      this.#answered = resolve;
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
    this.#stream.write(`${number} ${Buffer.from(script).toString('base64')}\n`);
    const [status, said = ''] = await answer;
    this.attended = true;
    if (status === '0') return;
    const words = oneLine(Buffer.from(said, 'base64').toString('utf8'));
    throw new KilnError('GuestUnreachable', `A script in the guest ended with ${oneLine(status ?? '')}: ${words}`);
  }

  #hear(text: string): void {
    const lines = (this.#rest + text).slice(-ANSWER_LIMIT).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      const [number, ...answer] = line.split(' ');
      // Else it is of a script that nobody waits for any more.
      if (Number(number) === this.#asked) this.#answered?.(answer);
    }
  }
}
