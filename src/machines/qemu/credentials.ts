/**
 * Provisioning by systemd itself, for guests with systemd 252 or newer: credentials in the SMBIOS tables (type 11) make the build user, its key and the
 * host's key while the guest boots. Without a seed cloud-init finds no data source and stays off, which is what most of an emulated boot went into.
 * systemd.exec(5) and tmpfiles.d(5) describe the credentials.
 */
import { chown, writeFile } from 'node:fs/promises';
import type { MachineIdentity } from './identity.ts';

/** The first id that Debian, Ubuntu and cloud-init give to a person: what templates' scripts find on other builders. */
const USER_ID = 1000;

/** Generalizing removes it. */
export const SUDOERS_FILE = '/etc/sudoers.d/90-kiln-build';

/** Not secret: given on QEMU's command line. */
export function userCredential({ user }: MachineIdentity): string {
  return credential('sysusers.extra', `u ${user} ${USER_ID} "Kiln build user" /home/${user} /bin/bash\n`);
}

/** The files of the build user and the host key, as one SMBIOS string. */
export function filesCredential({ user, login, host }: MachineIdentity): string {
  const home = `/home/${user}`;
  const file = (path: string, mode: string, owner: string, text: string) =>
    `f+~ ${path} ${mode} ${owner} ${owner} - ${Buffer.from(text).toString('base64')}`;
  return credential(
    'tmpfiles.extra',
    [
      `C ${home} 0700 ${user} ${user} - /etc/skel`,
      `Z ${home} - ${user} ${user}`,
      `d ${home}/.ssh 0700 ${user} ${user}`,
      file(`${home}/.ssh/authorized_keys`, '0600', user, `${login.publicKey}\n`),
      file(SUDOERS_FILE, '0440', 'root', `${user} ALL=(ALL) NOPASSWD:ALL\n`),
      file('/etc/ssh/ssh_host_ed25519_key', '0600', 'root', host.privateKey),
      file('/etc/ssh/ssh_host_ed25519_key.pub', '0644', 'root', `${host.publicKey}\n`),
      '',
    ].join('\n'),
  );
}

/**
 * Writes the secret one for QEMU, which reads it by its descriptor before it starts the guest: opened anew, so the file has to belong to the user that QEMU
 * runs as.
 */
export async function writeCredential(path: string, identity: MachineIdentity, owner?: number): Promise<void> {
  await writeFile(path, filesCredential(identity), { mode: 0o600 });
  if (owner !== undefined) await chown(path, owner, owner);
}

const credential = (name: string, text: string): string =>
  `io.systemd.credential.binary:${name}=${Buffer.from(text).toString('base64')}`;
