/** A machine's life: started, settled, worked on, powered off or destroyed. */
import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../arm/errors.ts';
import type {
  Checkpoint,
  CheckpointRequest,
  ExecOptions,
  ExecResult,
  Machine,
  MachineRequest,
  MachineShape,
  UploadOptions,
} from '../machine.ts';
import { uploadThrough } from '../upload.ts';
import { aborted } from './aborted.ts';
import { sshAccess } from './access.ts';
import { thaw } from './checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';
import { ConnectionLost } from './command-channel.ts';
import { COMMANDS_PORT, NETWORK, RENEWAL_PORT } from './command-line.ts';
import { CommandsPort } from './commands-port.ts';
import type { ConsoleLog, LastWords } from './console-log.ts';
import { type Deadlines, MINUTE } from './deadlines.ts';
import { namesScript } from './disk-names.ts';
import type { MachineIdentity } from './identity.ts';
import { consoleTail, lostByEvent, lostProcess, memoryKills, oneLine, panicked, unbootable } from './loss.ts';
import { BY_ITSELF, POWER_OFF, READ_ONLY } from './power-off.ts';
import type { QemuProcess } from './process.ts';
import { Qmp } from './qmp.ts';
import { clockScript, END_SESSIONS, newMachineId, renewalScript } from './renewal.ts';
import { RenewalPort, START_ATTENDANT } from './renewal-port.ts';
import { cloudInitComplaints, SETTLE_SCRIPT } from './settle.ts';
import { connect, type SshConnection } from './ssh.ts';

export interface MachineParts {
  readonly request: MachineRequest;
  readonly shape: MachineShape;
  readonly identity: MachineIdentity;
  readonly process: QemuProcess;
  readonly console: ConsoleLog;
  readonly sshAddress: string;
  /** 0: ask QEMU which one it picked. */
  readonly sshPort: number;
  readonly deadlines: Deadlines;
  /** Whether the guest has the ports that its attendants listen at. */
  readonly attendable: boolean;
  /** Resolves when the memory of a machine that goes on is where QEMU finds it. Missing: nothing goes on. */
  readonly filled?: Promise<unknown>;
  /** Where QEMU finds what the devices know of a machine that goes on. */
  readonly devicesFd?: number;
  /** Missing when there will be none. */
  readonly checkpoints?: Checkpoints;
  /** Frees what the machine held besides its process. */
  readonly release: () => Promise<void>;
}

/** As QEMU tells of it; its front end is the guest's. */
interface CharacterDevice {
  readonly label: string;
  readonly 'frontend-open': boolean;
}

export class QemuMachine implements Machine {
  readonly shape: MachineShape;
  readonly user: string;
  readonly #parts: MachineParts;
  readonly #qmp: Qmp;
  /** Aborted with the reason when the machine is lost or ended: no call outlives it. */
  readonly #gone = new AbortController();
  /** Missing in a machine that goes on until something cannot do without. */
  #ssh: SshConnection | undefined;
  #sshPort: number;
  readonly #renewal: RenewalPort;
  readonly #commands: CommandsPort;
  readonly #checkpoints: Checkpoints | undefined;
  #settled = false;
  /** Whether those of the run that the guest was frozen by are still open. */
  #othersSessions = false;
  #ending = false;
  #memoryKillsBefore: number | undefined;
  #destroyed: Promise<void> | undefined;

  /** Takes over the process and what `release` frees. */
  constructor(parts: MachineParts) {
    this.shape = parts.shape;
    this.user = parts.identity.user;
    this.#parts = parts;
    this.#sshPort = parts.sshPort;
    this.#commands = new CommandsPort(parts.process.commands, parts.deadlines.lastOutput);
    this.#qmp = new Qmp(parts.process.qmp, event => {
      const { id, open } = event.data ?? {};
      if (event.event === 'VSERPORT_CHANGE' && !open) {
        if (id === COMMANDS_PORT) this.#commands.lost();
        if (id === RENEWAL_PORT) this.#renewal.lost();
      }
      const error = this.#ending ? undefined : lostByEvent(event, this.#settled);
      if (error) this.#lose(error);
    });
    this.#checkpoints = parts.checkpoints;
    this.#renewal = new RenewalPort(parts.process.renewal);
    parts.console.onLastWords = which => void this.#loseByLastWords(which);
    void parts.process.exited.then(async exit => {
      if (this.#ending) return;
      const killsSince = ((await memoryKills()) ?? 0) - (this.#memoryKillsBefore ?? 0);
      this.#lose(lostProcess(exit, parts.process.complaint, killsSince));
    });
  }

  /** Waits until the guest answers and has settled. Rejects with MachineLost, GuestUnreachable or the request's signal's reason. */
  async settle(): Promise<void> {
    const { request, deadlines } = this.#parts;
    this.#memoryKillsBefore = await memoryKills();
    const begun = performance.now();
    await this.#orGone(this.#qmp.open());
    if (this.#sshPort === 0) this.#sshPort = await this.#orGone(this.#forwardedPort());
    const late = AbortSignal.timeout(deadlines.boot);
    const signal = this.#signals(request.signal, late);
    let lastFailure = '';
    try {
      this.#ssh = await connect(this.#target, {
        signal,
        handshakeMs: deadlines.handshake,
        lastOutputMs: deadlines.lastOutput,
        onFailure: error => {
          // A guest may put its own words into it.
          lastFailure = oneLine(error.message).slice(0, 500);
        },
      });
      request.report(`The guest answers after ${seconds(begun)} s.`);
      if (request.until === 'answers') {
        this.#settled = true;
        return;
      }
      const chunks: Buffer[] = [];
      const output = (chunk: Buffer, stream: string) => {
        if (stream === 'stdout' && chunks.length < 64) chunks.push(chunk);
      };
      const attend = this.#parts.attendable ? START_ATTENDANT : 'false';
      const { exitCode } = await this.#ssh.exec(`${SETTLE_SCRIPT}\n{ ${attend}\n} >/dev/null 2>&1`, { signal, output });
      this.#renewal.attended = exitCode === 0;
      for (const line of cloudInitComplaints(Buffer.concat(chunks).toString('utf8'))) request.report(line);
      await this.#nameDisks(this.#ssh, signal);
    } catch (error) {
      if (error instanceof ConnectionLost)
        throw await this.#unreachable(`The guest broke off while it started. ${error.message}`);
      if (error !== late.reason) throw error;
      throw await this.#unreachable(
        `The guest was not ready within ${spoken(deadlines.boot)}.${lastFailure && ` Last try: ${lastFailure}.`}`,
      );
    }
    request.report(`The guest has settled after ${seconds(begun)} s.`);
    this.#settled = true;
  }

  /** Goes on from the memory that QEMU was started with, as a machine of its own, once `intact` says that it may. Rejects as {@link settle} does, and as that does. */
  async resume(intact: Promise<unknown> = Promise.resolve()): Promise<void> {
    const { request, deadlines, identity } = this.#parts;
    this.#memoryKillsBefore = await memoryKills();
    const begun = performance.now();
    await this.#orGone(this.#qmp.open());
    if (this.#sshPort === 0) this.#sshPort = await this.#orGone(this.#forwardedPort());
    const late = AbortSignal.timeout(deadlines.reconnect);
    const signal = this.#signals(request.signal, late);
    try {
      // Nobody reaches it, nor it anybody, while it has secrets that others know.
      await this.#orGone(this.#qmp.execute('set_link', { name: NETWORK, up: false }));
      await aborted(Promise.all([intact, this.#parts.filled]), signal);
      await this.#orGone(aborted(thaw(this.#qmp, this.#parts.devicesFd!, signal), signal));
      request.report(`The guest goes on after ${seconds(begun)} s.`);
      const [machineId, entropy] = [newMachineId(), randomBytes(64)];
      await this.#renewal.run(renewalScript({ identity, machineId, entropy }), signal);
      await this.#orGone(this.#qmp.execute('set_link', { name: NETWORK, up: true }));
      request.report(`The guest is a machine of its own after ${seconds(begun)} s.`);
      this.#othersSessions = true;
      await Promise.all([this.#answers(signal), this.#renewal.run(clockScript(Date.now()), signal)]);
    } catch (error) {
      if (error !== late.reason) throw error;
      throw await this.#unreachable(`The resumed guest was not ready within ${spoken(deadlines.reconnect)}.`);
    }
    request.report(`The guest answers after ${seconds(begun)} s.`);
    this.#settled = true;
  }

  async checkpoint(request: CheckpointRequest): Promise<Checkpoint> {
    if (!this.#checkpoints) throw new KilnError('InternalError', 'The machine was started for no checkpoints.');
    const { reconnect, giveUp } = this.#parts.deadlines;
    const late = AbortSignal.timeout(reconnect);
    const signal = this.#signals(request.signal, late);
    signal.throwIfAborted();
    // QEMU answers nothing while the host's disk keeps it waiting; whoever cancels a build must not wait for that.
    let stuck: NodeJS.Timeout | undefined;
    const watch = () => {
      const hung = new KilnError('MachineLost', 'QEMU does not answer while the virtual machine is frozen.');
      stuck = setTimeout(() => this.#lose(hung), giveUp);
    };
    signal.addEventListener('abort', watch, { once: true });
    try {
      return await this.#checkpoints.take(request, this, { qmp: this.#qmp, port: this.#renewal }, signal);
    } catch (error) {
      this.#gone.signal.throwIfAborted();
      if (error instanceof KilnError && error.code === 'MachineLost') this.#lose(error);
      if (error !== late.reason) throw error;
      throw new KilnError('GuestUnreachable', 'The machine could not be frozen in time: its guest does not answer.');
    } finally {
      signal.removeEventListener('abort', watch);
      clearTimeout(stuck);
    }
  }

  async exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    const signal = this.#signals(options.signal);
    signal.throwIfAborted();
    try {
      if (!this.#ssh && this.#commands.takes(options.stdin)) {
        const ended = this.#commands.exec(command, { ...options, signal });
        this.#endOthersSessions();
        return await ended;
      }
      const connection = await this.#connection(signal);
      return await connection.exec(command, { ...options, signal, onBegun: () => this.#endOthersSessions() });
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      throw await this.#unreachable(`The connection to the guest broke off while a command ran. ${error.message}`);
    }
  }

  /** Resolves when commands can be run: in the session that the guest was frozen with, or, where nobody listens there any more, in one by SSH. */
  async #answers(signal: AbortSignal): Promise<void> {
    const devices = (await this.#qmp.execute('query-chardev')) as readonly CharacterDevice[];
    const attended = devices.some(one => one.label === 'commands' && one['frontend-open']);
    if (!attended || !(await this.#commands.greet(signal))) await this.#connection(signal);
  }

  /** Of no concern to what the build does next; by SSH once a session of its own is open, since opening one keeps an emulated guest busy. */
  #endOthersSessions(): void {
    if (!this.#othersSessions) return;
    this.#othersSessions = false;
    const signal = this.#signals(AbortSignal.timeout(this.#parts.deadlines.reconnect));
    void this.#renewal.run(END_SESSIONS, signal).catch(() => {});
  }

  async asRoot(script: string, { output, signal: asked }: Omit<ExecOptions, 'stdin'> = {}): Promise<ExecResult> {
    const signal = this.#signals(asked);
    signal.throwIfAborted();
    this.#endOthersSessions();
    // A login and its sudo take an emulated guest half a second.
    if (await this.#renewal.answers(signal))
      return { exitCode: await this.#renewal.ask(script, signal, chunk => output?.(chunk, 'stdout')) };
    return await this.exec('sudo sh -s', { stdin: script, signal, ...(output && { output }) });
  }

  upload(source: Readable, destination: string, options?: UploadOptions): Promise<number> {
    return uploadThrough(this, source, destination, options);
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  async access(): Promise<readonly string[]> {
    this.#gone.signal.throwIfAborted();
    const { directory, name } = this.#parts.request;
    return await sshAccess({ ...this.#target, directory, name });
  }

  async powerOff(options: { readonly signal?: AbortSignal; readonly unplug?: boolean } = {}): Promise<void> {
    const { process, deadlines } = this.#parts;
    this.#gone.signal.throwIfAborted();
    options.signal?.throwIfAborted();
    this.#ending = true;
    const late = AbortSignal.timeout(deadlines.powerOff);
    const signal = AbortSignal.any([late, ...(options.signal ? [options.signal] : [])]);
    const press = () => void this.#qmp.execute('system_powerdown').catch(() => {});
    const unplug = () => void this.#qmp.execute('quit').catch(() => {});
    const button = setTimeout(press, deadlines.powerOff / 2);
    const ask = async () => {
      if (await this.#renewal.answers(signal)) {
        const status = await this.#renewal.ask(POWER_OFF, signal, () => {});
        if (status === READ_ONLY) return unplug();
        if (status === BY_ITSELF) return;
      }
      // Both at once: the build user may have gone with its rights, and a guest may not listen to its power button.
      void this.#ssh?.exec('sudo -n systemctl poweroff', { signal }).catch(() => undefined);
      press();
    };
    try {
      // Whoever is asked may break off before it has answered, or never answer; what counts is that the machine ends.
      if (options.unplug) unplug();
      else void ask().catch(press);
      await aborted(process.exited, signal);
    } catch (error) {
      await this.destroy();
      if (error !== late.reason) throw error;
      throw await this.#unreachable(`The guest did not power off within ${spoken(deadlines.powerOff)}.`);
    } finally {
      clearTimeout(button);
    }
    const { exit } = process;
    if (exit?.code !== 0) {
      await this.destroy();
      throw lostProcess(exit!, process.complaint, 0);
    }
    this.destroy().catch(() => {});
  }

  destroy(): Promise<void> {
    this.#destroyed ??= (async () => {
      this.#ending = true;
      this.#gone.abort(new KilnError('MachineLost', 'The machine has been ended.'));
      this.#ssh?.close();
      await this.#parts.process.kill();
      this.#qmp.close();
      await this.#parts.release();
    })();
    return this.#destroyed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  get #target() {
    return { address: this.#parts.sshAddress, port: this.#sshPort, identity: this.#parts.identity };
  }

  /** A guest without udev has its data disks all the same, under names of its own. */
  async #nameDisks(connection: SshConnection, signal: AbortSignal): Promise<void> {
    const { dataDisks = [], report } = this.#parts.request;
    if (dataDisks.length === 0) return;
    let said = '';
    const { exitCode } = await connection.exec('sudo -n sh -s', {
      stdin: namesScript(dataDisks.map(({ lun }) => lun)),
      signal,
      output(chunk) {
        said = (said + chunk.toString('utf8')).slice(-1000);
      },
    });
    if (exitCode !== 0) report(`The data disks have no names below /dev/disk/azure in this guest: ${oneLine(said)}`);
  }

  /** The connection, made anew when a customizer has broken it (by restarting the guest's network, say). */
  async #connection(signal: AbortSignal): Promise<SshConnection> {
    if (this.#ssh && !this.#ssh.closed) return this.#ssh;
    const late = AbortSignal.timeout(this.#parts.deadlines.reconnect);
    try {
      this.#ssh = await connect(this.#target, {
        signal: AbortSignal.any([signal, late]),
        handshakeMs: this.#parts.deadlines.handshake,
        lastOutputMs: this.#parts.deadlines.lastOutput,
      });
      return this.#ssh;
    } catch (error) {
      if (error !== late.reason) throw error;
      throw await this.#unreachable('The guest no longer answers.');
    }
  }

  /** Which port QEMU picked for SSH when it was given none. */
  async #forwardedPort(): Promise<number> {
    const table = (await this.#qmp.execute('human-monitor-command', { 'command-line': 'info usernet' })) as string;
    const port = /HOST_FORWARD\S*\s+\d+\s+\S+\s+(\d+)/.exec(table)?.[1];
    if (port === undefined) throw new KilnError('MachineLost', `QEMU does not say which port it forwards: ${table}`);
    return Number(port);
  }

  #lose(error: KilnError): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#gone.abort(error);
    this.#ssh?.close();
    // QEMU may be standing still on an error; what is left belongs to destroy().
    void this.#parts.process.kill();
  }

  /** Waits a moment for what still belongs to them, so that the message can end with it. */
  async #loseByLastWords(which: LastWords): Promise<void> {
    // A guest that has started may print what it likes.
    if (which === 'nothingToBoot' && this.#settled) return;
    await sleep(1000, undefined, { signal: this.#gone.signal }).catch(() => {});
    const { consolePath, trusted } = this.#parts.request;
    const tail = await consoleTail(consolePath);
    if (!this.#ending) this.#lose(which === 'panic' ? panicked(tail) : unbootable(tail, trusted));
  }

  #signals(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
    return AbortSignal.any([this.#gone.signal, ...signals.filter(signal => signal !== undefined)]);
  }

  async #orGone<T>(promise: Promise<T>): Promise<T> {
    try {
      return await aborted(promise, this.#signals(this.#parts.request.signal));
    } catch (error) {
      // QEMU's control connection breaks before its end is known: prefer the reason.
      if (error instanceof KilnError) throw error;
      await this.#reasonOfLoss();
      throw error;
    }
  }

  /** Throws what the machine was lost by, when that becomes known within two seconds. */
  async #reasonOfLoss(): Promise<void> {
    if (!this.#gone.signal.aborted) await sleep(2000, undefined, { signal: this.#gone.signal }).catch(() => {});
    this.#gone.signal.throwIfAborted();
  }

  /** A GuestUnreachable with the end of the console, unless the machine turns out to be lost. */
  async #unreachable(message: string): Promise<KilnError> {
    if (!this.#ending) await this.#reasonOfLoss();
    const tail = await consoleTail(this.#parts.request.consolePath);
    const said = tail
      ? `Its console ends with:\n${tail}`
      : 'Nothing came on its serial console: either the disk does not boot, or its system does not use ttyS0 as a console.';
    return new KilnError('GuestUnreachable', `${message} ${said}`, {
      target: this.#parts.request.consolePath,
    });
  }
}

const seconds = (begun: number): string => ((performance.now() - begun) / 1000).toFixed(1);
const spoken = (milliseconds: number): string =>
  milliseconds < 2 * MINUTE ? `${milliseconds / 1000} s` : `${Math.round(milliseconds / MINUTE)} minutes`;
