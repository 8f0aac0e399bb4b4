/**
 * What makes a resumed guest a machine of its own: everything in it that is secret or identifies it is made anew, before anything else runs in it. Two machines
 * that were resumed from one checkpoint have nothing in common that one could use against the other.
 */
import { randomBytes } from 'node:crypto';
import type { MachineIdentity } from './identity.ts';

const SESSIONS_FILE = '/run/kiln-sessions';

export interface Renewal {
  readonly identity: MachineIdentity;
  /** 32 lower-case hex digits. */
  readonly machineId: string;
  /** Fresh random bytes for the guest's kernel. */
  readonly entropy: Buffer;
}

/** A machine-id as systemd makes them: a random UUID of version 4 (machine-id(5)). */
export function newMachineId(): string {
  const bytes = randomBytes(16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString('hex');
}

/** Above this gap (seconds) timers that a step has started would fire at once for days that the guest slept through, and hold the package manager's lock. */
const TIMER_GAP = 600;

/**
 * The script, for root's sh in the guest. Its parts:
 *  - entropy: RNDADDENTROPY and RNDRESEEDCRNG (linux/random.h), because a plain write only counts at the next reseed, minutes later, and not every kernel has a driver for
 *    vmgenid. A guest where neither can be done is not resumed;
 *  - machine-id, unless a step has emptied it;
 *  - host keys: Kiln gives the one, others are removed rather than made, for nobody asks for them;
 *  - the build user's key; who is logged in with another is written down, for {@link END_SESSIONS};
 *  - the sshd that listens starts itself anew (SIGHUP), because it holds the old host key and the old random state in memory.
 * The host's name stays: it is no secret, the same after every cold boot, and a step may have changed it.
 */
export function renewalScript({ identity, machineId, entropy }: Renewal): string {
  const { user, login, host } = identity;
  return `
entropy=${entropy.toString('hex')}
printf %s "$entropy" > /dev/urandom
printf %s "$entropy" | perl -e '$b = pack("H*", <STDIN>); open(my $f, ">", "/dev/urandom") or exit 1;
  ioctl($f, 0x40085203, pack("ii", 8 * length($b), length($b)) . $b) and ioctl($f, 0x5207, 0) or exit 1' 2>/dev/null ||
printf %s "$entropy" | python3 -c 'import fcntl, struct, sys
b = bytes.fromhex(sys.stdin.read()); f = open("/dev/urandom", "wb")
fcntl.ioctl(f, 0x40085203, struct.pack("ii", 8 * len(b), len(b)) + b); fcntl.ioctl(f, 0x5207, 0)' 2>/dev/null ||
ls -d /sys/bus/acpi/drivers/vmgenid/*:* >/dev/null 2>&1 || { echo 'its random numbers cannot be made new'; exit 1; }

if [ -s /etc/machine-id ]; then
  echo ${machineId} > /etc/machine-id
  if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then echo ${machineId} > /var/lib/dbus/machine-id; fi
fi

rm -f /etc/ssh/ssh_host_*
umask 022
echo '${host.publicKey}' > /etc/ssh/ssh_host_ed25519_key.pub
umask 077
printf %s '${host.privateKey}' > /etc/ssh/ssh_host_ed25519_key || exit 1

for keys in ~${user}/.ssh/authorized_keys /root/.ssh/authorized_keys; do
  [ -f "$keys" ] || continue
  kept=
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *' ${comment(login.publicKey)}') ;; *) kept="$kept$line
";; esac
  done < "$keys"
  printf %s "$kept" > "$keys"
done
keys=~${user}/.ssh/authorized_keys
[ -f "$keys" ] || { mkdir -p "\${keys%/*}" && : > "$keys" && chown -R ${user}: "\${keys%/*}"; }
echo '${login.publicKey}' >> "$keys" || exit 1

sessions=
for process in /proc/[0-9]*; do
  # The shell reads byte by byte, and of all others their name is enough.
  { read -r name < "$process/comm"; } 2>/dev/null || continue
  case $name in sshd*) ;; *) continue;; esac
  { read -r pid name _ parent _ < "$process/stat"; } 2>/dev/null || continue
  case $parent in
    1) kill -HUP "$pid";;
    *) sessions="$sessions $pid";;
  esac
done
echo "$sessions" > ${SESSIONS_FILE}

exit 0
`;
}

/**
 * Ends the sessions that were open when the guest was frozen: they belong to another run of Kiln. Once Kiln is connected, because the user's systemd ends ten seconds
 * after its last session, and starting it again takes an emulated guest longer than the rest of the resume.
 */
export const END_SESSIONS = `
read -r sessions < ${SESSIONS_FILE}
rm ${SESSIONS_FILE}
[ -z "$sessions" ] || kill -KILL $sessions 2>/dev/null
exit 0
`;

/**
 * The script that sets the clock, and asks for the lease again without waiting (QEMU gives every machine the same address). Timers were stopped before the guest was
 * frozen (START_ATTENDANT); those that a step has started since are stopped before the clock jumps. It may run while Kiln connects.
 * @param now milliseconds since 1970
 */
export function clockScript(now: number): string {
  return `
read -r begun rest < /proc/uptime
[ $(( ${Math.floor(now / 1000)} - $(date +%s) )) -le ${TIMER_GAP} ] || systemctl stop '*.timer'
read -r ended rest < /proc/uptime
date -s @$(( ${Math.round(now / 1000)} + \${ended%.*} - \${begun%.*} )) >/dev/null || exit 1
devices=
for device in /sys/class/net/*/device; do device=\${device%/device}; devices="$devices \${device##*/}"; done
[ ! -d /run/systemd/netif/links ] || networkctl renew $devices >/dev/null 2>&1 </dev/null &
exit 0
`;
}

/** What a line of authorized_keys ends with: how lines of earlier runs are known. */
const comment = (publicKey: string): string => publicKey.trim().split(' ').slice(2).join(' ');
