/** Where images of one template may differ that were not built in the same way: each place with its reason. All else of them is the same. */
import assert from 'node:assert/strict';
import { filesOf, type ImageFiles } from './image-files.ts';

/** May differ between any two builds, also of one kind. */
export const ALWAYS: Readonly<Record<string, string>> = {
  '/var/log/alternatives.log': 'a log: its lines begin with the time',
  '/var/log/dpkg.log': 'a log: its lines begin with the time',
  '/var/cache/ldconfig/aux-cache':
    'an id: it has the number of the device that the disk was when ldconfig ran, a loop device’s among them',
};

/** May differ between a virtual machine and a container, and between two virtual machines. */
export const BOOTED: Readonly<Record<string, string>> = {
  ...ALWAYS,
  '/var/log/wtmp': 'a log: systemd writes down when it starts the machine, and when it powers it off itself',
  '/var/lib/systemd/timesync/clock':
    'a time: the latest that the clock has shown; systemd-timesyncd makes it when it first runs',
  '/var/lib/systemd/timesync': 'the directory of that file',
};

/** May differ between a virtual machine and a container: no service of the image runs in a container while it is built. All of it is made at the image's first boot. */
export const KINDS: Readonly<Record<string, string>> = {
  ...BOOTED,
  '/var/lib/dbus/machine-id': 'an id: a link to /etc/machine-id, which systemd-tmpfiles makes at boot',
  '/var/lib/systemd/linger': 'an empty directory, which systemd-logind makes when it first runs',
  '/var/lib/systemd/timers': 'the empty directory of timers’ stamps, which systemd makes when the first starts',
};

/** The files of a VHD, of which the day that a password was changed on does not count. @param since when the build began, or one before it (ms since 1970) */
export async function comparable(vhd: string, since: number): Promise<ImageFiles> {
  const days = (text: string) => text.replaceAll(/^([^:]*:[^:]*):\d*/gm, '$1');
  return await filesOf(vhd, since, { '/etc/shadow': days });
}

/** The same but for what is listed. */
export function same(files: ImageFiles, others: ImageFiles, listed: Readonly<Record<string, string>>): void {
  const paths = [...new Set([...files.keys(), ...others.keys()])].filter(path => files.get(path) !== others.get(path));
  const differ = paths.filter(path => !Object.hasOwn(listed, path));
  assert.deepEqual(
    differ.map(path => `${path}: ${files.get(path)} / ${others.get(path)}`),
    [],
  );
  assert.ok(files.size > 10_000, `only ${files.size} files`);
}
