/** cloud-init's NoCloud seed: how a guest gets its build user, its key and its network. A small FAT image labelled CIDATA. */
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../../processes/process.ts';
import { MAC_ADDRESS } from './command-line.ts';
import type { MachineIdentity } from './identity.ts';

/** What a guest is called while it is built: generalizing replaces it. */
export const GUEST_HOSTNAME = 'kiln';

export interface SeedContent {
  /** New for every machine: cloud-init runs its first-boot work again. */
  readonly instanceId: string;
  readonly hostname: string;
  readonly identity: MachineIdentity;
  /** For a person's console; the build user has none. */
  readonly password?: string;
}

const SIZE_KIB = 1440;
export const SEED_BYTES = SIZE_KIB * 1024;

/** The seed's three files. JSON is YAML, and needs no quoting rules of its own. */
export function seedFiles(content: SeedContent): Readonly<Record<string, string>> {
  const { identity, password } = content;
  const user = {
    name: identity.user,
    gecos: 'Kiln build user',
    shell: '/bin/bash',
    sudo: 'ALL=(ALL) NOPASSWD:ALL',
    ssh_authorized_keys: [identity.login.publicKey],
    ...(password === undefined ? { lock_passwd: true } : { lock_passwd: false, plain_text_passwd: password }),
  };
  const userData = {
    users: [user],
    disable_root: true,
    ssh_pwauth: false,
    ssh_deletekeys: true,
    ssh_genkeytypes: [],
    ssh_keys: { ed25519_private: identity.host.privateKey, ed25519_public: identity.host.publicKey },
    // Nobody reads these, and each costs a Python start in the guest.
    no_ssh_fingerprints: true,
    ssh: { emit_keys_to_console: false },
    package_update: false,
    package_upgrade: false,
    growpart: { mode: 'auto', devices: ['/'] },
    resize_rootfs: true,
  };
  const networkConfig = {
    version: 2,
    // The name that Azure's images know the first interface by.
    ethernets: { eth0: { match: { macaddress: MAC_ADDRESS }, 'set-name': 'eth0', dhcp4: true, dhcp6: false } },
  };
  return {
    'meta-data': json({ 'instance-id': content.instanceId, 'local-hostname': content.hostname }),
    'user-data': `#cloud-config\n${json(userData)}`,
    'network-config': json(networkConfig),
  };
}

/** Writes the seed image; only its owner can read it, because it holds the host key. */
export async function writeSeed(file: string, content: SeedContent, signal?: AbortSignal): Promise<void> {
  const options = signal ? { signal } : {};
  const directory = `${file}.files`;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  try {
    await (await open(file, 'w', 0o600)).close();
    await run('mformat', ['-C', '-i', file, '-f', String(SIZE_KIB), '-v', 'CIDATA', '::'], options);
    const files = seedFiles(content);
    for (const [name, text] of Object.entries(files))
      await writeFile(path.join(directory, name), text, { mode: 0o600 });
    await run('mcopy', ['-i', file, ...Object.keys(files).map(name => path.join(directory, name)), '::'], options);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;
