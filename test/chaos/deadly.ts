/**
 * Loaded into a `kiln build` before everything else (node --import): ends it by kill -9 at the moment that KILN_TEST_DEADLY names, of keeping or taking a machine's
 * layer. What the product does at that moment is its own: only the calls that it makes anyway are watched.
 */
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';

const moment = process.env.KILN_TEST_DEADLY ?? '';

const die = () => process.kill(process.pid, 'SIGKILL');

type Call = (...args: unknown[]) => Promise<unknown>;

/** The call whose text fits is the last one: before it does anything, or right after it has. */
function onCall(name: string, fits: (text: string) => boolean, when: 'before' | 'after', delay = 0): void {
  const functions = fs as unknown as Record<string, Call>;
  const real = functions[name]!;
  functions[name] = async (...args) => {
    const mine = fits(args.filter(one => typeof one === 'string').join(' '));
    if (mine && when === 'before') die();
    const result = await real(...args);
    if (mine) delay > 0 ? setTimeout(die, delay) : die();
    return result;
  };
  syncBuiltinESMExports();
}

/** QEMU is told so, for the first time after `already`. */
function onCommand(command: string, already = ''): void {
  const real = net.Socket.prototype.write as (...args: unknown[]) => boolean;
  let armed = already === '';
  net.Socket.prototype.write = function (this: net.Socket, ...args: unknown[]) {
    const text = String(args[0]);
    if (armed && text.includes(`"${command}"`)) die();
    armed ||= text.includes(`"${already}"`);
    return real.apply(this, args);
  } as typeof net.Socket.prototype.write;
}

const STAGED = /\.staged-/;

const MOMENTS: Readonly<Record<string, () => void>> = {
  'when it has its name': () => onCall('rename', text => STAGED.test(text), 'after'),
  'while it is taken': () => onCall('link', text => /\/layers\/.*memory-\d+$/.test(text), 'after'),
  'before its devices are handed over': () => onCommand('migrate'),
  'while the memory is written': () => onCall('open', text => /memory-2 wx$/.test(text), 'after', 50),
  'between memory and disk': () => onCommand('blockdev-snapshot'),
  'before the machine goes on': () => onCommand('cont', 'blockdev-snapshot'),
  'while its disk is hashed': () =>
    onCall('open', text => STAGED.test(text) && /layer-2\.qcow2 r$/.test(text), 'after'),
  'when its memory is there': () => onCall('chmod', text => STAGED.test(text) && /memory-2$/.test(text), 'after'),
};

const arm = MOMENTS[moment];
if (arm && process.argv.includes('build')) arm();
