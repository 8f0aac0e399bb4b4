/**
 * Powering a guest off from within, by root's sh: what the image or the template brought along is stopped as it asks to be, in its order, and other processes are told to end;
 * the parts of systemd, of which an emulated guest takes seconds to stop one after the other, have nothing on the disk that would have to be brought to an end.
 * Then file systems become read-only, which the kernel does only when nothing is left to be written, and the machine can be unplugged. Where that is not so simple, systemd's last
 * moment does it: signals to all, unmounting, a second at least.
 */

/** systemd's own and what logins stand on. */
const OWN = 'systemd-*|dbus*|ssh.service|sshd.service|*getty@*|user@*|kiln-*';
/** As processes are called. */
const OWN_PROCESSES = 'systemd*|"(sd-pam)"|dbus-*|sshd*|agetty|kiln-*';

/** What becomes clean on disks when it is made read-only. */
const CLEAN_WHEN_READ_ONLY = 'ext2|ext3|ext4|xfs|btrfs|vfat';
/** In memory, or windows into the kernel. */
const OF_THE_KERNEL =
  'autofs|binfmt_misc|bpf|cgroup|cgroup2|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|mqueue|nsfs|proc|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|sysfs|tmpfs|tracefs';

/** How {@link POWER_OFF} ends. */
export const READ_ONLY = 0;
export const BY_ITSELF = 3;

/** Ends with READ_ONLY: nothing of the disks is in memory alone. Or with BY_ITSELF, and the machine ends soon. */
export const POWER_OFF = `
# A service that runs has its control group, and is found without a process.
groups=/sys/fs/cgroup
[ -d $groups/system.slice ] &&
  set -- $groups/*.slice/*.service $groups/*.slice/*.slice/*.service $groups/*.slice/*.slice/*.slice/*.service ||
  set -- $(systemctl list-units --type=service --state=running --no-legend --plain | cut -d ' ' -f 1)
others=
for unit in "$@"; do
  unit=\${unit##*/}
  case $unit in '*.service' | ${OWN}) ;; *) others="$others $unit";; esac
done
# Written by hand, so perhaps by the template: those that did their work at the start, too.
for file in /etc/systemd/system/*.service; do
  case $file in *@.service) ;; *) [ ! -f "$file" ] || [ -L "$file" ] || others="$others \${file##*/}";; esac
done
# systemd's own with a /tmp of their own hold on to it.
for directory in /tmp/systemd-private-*; do
  [ -d "$directory" ] || continue
  unit=\${directory#/tmp/systemd-private-*-}
  others="$others \${unit%-*}"
done
[ -z "$others" ] || timeout 60 systemctl stop $others
# What systemd removes when it stops a unit with a /tmp of its own.
for directory in /tmp/systemd-private-* /var/tmp/systemd-private-*; do [ ! -d "$directory" ] || rm -rf "$directory"; done

by_itself() {
  systemctl --force poweroff
  exit ${BY_ITSELF}
}
for file in /lib/systemd/system-shutdown/* /etc/systemd/system-shutdown/*; do [ ! -x "$file" ] || by_itself; done
{ read -r heading; read -r swap; } < /proc/swaps && by_itself
set --
while read -r device place type options rest; do
  case $options in ro | ro,*) continue;; esac
  case $type in
    ${CLEAN_WHEN_READ_ONLY}) case $device in /dev/dm-* | /dev/mapper/* | /dev/md*) by_itself;; esac;;
    ${OF_THE_KERNEL}) continue;;
    *) by_itself;;
  esac
  case $place in *\\\\*) by_itself;; esac
  # The innermost first.
  set -- "$place" "$@"
done < /proc/mounts

running=
for process in /proc/[0-9]*; do
  pid=\${process##*/}
  # The kernel's own have none.
  [ -e "$process/exe" ] || continue
  case $pid in 1 | $$ | $PPID) continue;; esac
  { read -r name < "$process/comm"; } 2>/dev/null || continue
  case $name in ${OWN_PROCESSES}) ;; *) running="$running $pid";; esac
done
left() { for pid in $running; do [ ! -e "/proc/$pid/exe" ] || return 0; done; return 1; }
if [ -n "$running" ]; then
  kill -TERM $running 2>/dev/null
  tries=0
  while left && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
  ! left || kill -KILL $running 2>/dev/null
fi
for place in "$@"; do mount -o remount,ro "$place" || by_itself; done
exit ${READ_ONLY}
`;
