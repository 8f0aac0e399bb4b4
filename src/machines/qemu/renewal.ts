/**
 * What makes a resumed guest a machine of its own: everything in it that is secret or identifies it is made anew, before anything else runs in it. Two machines
 * that were resumed from one checkpoint have nothing in common that one could use against the other.
 */
import { randomBytes } from 'node:crypto';
import type { MachineIdentity } from './identity.ts';

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

/** Above this gap (seconds) timers would fire at once for days that the guest slept through, and hold the package manager's lock. */
const TIMER_GAP = 600;

/**
 * The script, for root's sh in the guest. Its parts:
 *  - entropy: RNDADDENTROPY and RNDRESEEDCRNG (linux/random.h), because a plain write only counts at the next reseed, minutes later, and not every kernel has a driver for
 *    vmgenid. A guest where neither can be done is not resumed;
 *  - machine-id, unless a step has emptied it;
 *  - host keys: Kiln gives the one, others are removed rather than made, for nobody asks for them;
 *  - the build user's key, and the end of the sessions that were open: they belong to another run of Kiln;
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
  kept=$(grep -v ' ${comment(login.publicKey)}$' "$keys")
  printf %s "\${kept:+$kept
}" > "$keys"
done
keys=~${user}/.ssh/authorized_keys
[ -f "$keys" ] || { mkdir -p "\${keys%/*}" && : > "$keys" && chown -R ${user}: "\${keys%/*}"; }
echo '${login.publicKey}' >> "$keys" || exit 1

sessions=
for process in /proc/[0-9]*; do
  { read -r pid name _ parent _ < "$process/stat"; } 2>/dev/null || continue
  case "$name,$parent" in
    '(sshd'*,1) kill -HUP "$pid";;
    '(sshd'*) sessions="$sessions $pid";;
  esac
done
[ -z "$sessions" ] || kill -KILL $sessions

exit 0
`;
}

/**
 * The script that sets the clock, asks for the lease again without waiting (QEMU gives every machine the same address), and keeps systemd's timers from making up for
 * what they missed: they are stopped, and started as if they had just fired. It may run while Kiln connects.
 * @param now milliseconds since 1970
 */
export function clockScript(now: number): string {
  return `
read -r begun rest < /proc/uptime
timers=
if [ $(( ${Math.floor(now / 1000)} - $(date +%s) )) -gt ${TIMER_GAP} ]; then
  timers=$(systemctl list-units --type=timer --state=active --plain --no-legend | cut -d' ' -f1)
  [ -z "$timers" ] || systemctl stop $timers
fi
read -r ended rest < /proc/uptime
date -s @$(( ${Math.round(now / 1000)} + \${ended%.*} - \${begun%.*} )) >/dev/null || exit 1
(
  [ -z "$timers" ] || { touch /var/lib/systemd/timers/stamp-*; systemctl start $timers; }
  if systemctl -q is-active systemd-networkd; then
    for device in /sys/class/net/*/device; do device=\${device%/device}; networkctl renew "\${device##*/}"; done
  fi
) >/dev/null 2>&1 </dev/null &
exit 0
`;
}

/** What a line of authorized_keys ends with: how lines of earlier runs are known. */
const comment = (publicKey: string): string => publicKey.trim().split(' ').slice(2).join(' ');
