/** Keys of one machine: made for it, kept in memory, gone with it. */
import ssh2 from 'ssh2';

export interface KeyPair {
  /** OpenSSH's private key text. */
  readonly privateKey: string;
  /** One line, as in authorized_keys. */
  readonly publicKey: string;
}

export interface MachineIdentity {
  /** The build user's name in the guest. */
  readonly user: string;
  /** What Kiln logs in with. */
  readonly login: KeyPair;
  /** What the guest shows: given by Kiln, so that the connection can be verified and the guest generates none. */
  readonly host: KeyPair;
}

/** A name that no image brings along, and that generalizing removes. */
export const BUILD_USER = 'kiln';

export function newIdentity(): MachineIdentity {
  return { user: BUILD_USER, login: ed25519('kiln build'), host: ed25519('kiln machine') };
}

function ed25519(comment: string): KeyPair {
  const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment });
  return { privateKey: pair.private, publicKey: pair.public };
}

/** The key itself, as it crosses the wire. */
export function wireForm(publicKey: string): Buffer {
  return Buffer.from(publicKey.split(' ')[1]!, 'base64');
}
