/** Keys of one machine: made for it, kept in memory, gone with it. */
import { ssh2 } from './ssh2.ts';

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

/** Two strings behind their lengths: "ssh-ed25519" and the 32 bytes of the key. RFC 8709, section 4. */
const WIRE_BYTES = 4 + 11 + 4 + 32;

export function newIdentity(): MachineIdentity {
  return { user: BUILD_USER, login: ed25519('kiln build'), host: ed25519('kiln machine') };
}

/** ssh2 takes leading zeros from one public key in 256, and then nobody can read it (mscdex/ssh2#1390): such a pair is drawn again. */
function ed25519(comment: string): KeyPair {
  for (;;) {
    const pair = ssh2().utils.generateKeyPairSync('ed25519', { comment });
    if (wireForm(pair.public).length === WIRE_BYTES) return { privateKey: pair.private, publicKey: pair.public };
  }
}

/** The key itself, as it crosses the wire. */
export function wireForm(publicKey: string): Buffer {
  return Buffer.from(publicKey.split(' ')[1]!, 'base64');
}
