/** How a person gets into a virtual machine: files and a command with which OpenSSH does what Kiln does itself. */
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { MachineIdentity } from './identity.ts';

export interface AccessTarget {
  readonly address: string;
  readonly port: number;
  readonly identity: MachineIdentity;
  /** The run's own directory, and the machine's name in it. */
  readonly directory: string;
  readonly name: string;
}

/**
 * Writes the login key (0600) and the guest's host key into the run's directory. No configuration of the user's gets in the way, no key of an agent is
 * offered first, and a guest that shows another key than the one it was given is refused.
 * @returns the command, an argument array
 */
export async function sshAccess({ address, port, identity, directory, name }: AccessTarget): Promise<string[]> {
  const key = path.join(directory, `${name}.key`);
  const hosts = path.join(directory, `${name}.known_hosts`);
  const [type, base64] = identity.host.publicKey.split(' ');
  for (const [file, text] of [
    [key, identity.login.privateKey],
    [hosts, `[${address}]:${port} ${type} ${base64}\n`],
  ] as const) {
    await rm(file, { force: true });
    await writeFile(file, text.endsWith('\n') ? text : `${text}\n`, { mode: 0o600, flag: 'wx' });
  }
  const settings = [
    `UserKnownHostsFile=${/\s/.test(hosts) ? `"${hosts}"` : hosts}`,
    'GlobalKnownHostsFile=none',
    'StrictHostKeyChecking=yes',
    'IdentitiesOnly=yes',
  ];
  return [
    ...['ssh', '-F', 'none', '-i', key, '-p', String(port)],
    ...settings.flatMap(setting => ['-o', setting]),
    `${identity.user}@${address}`,
  ];
}
