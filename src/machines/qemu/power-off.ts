/**
 * Powering a guest off from within, by root's sh: what the image or the template brought along is stopped as it asks to be, in its order; the parts of systemd,
 * of which an emulated guest takes seconds to stop one after the other, get the signals of the last moment, and file systems are unmounted.
 */

/** systemd's own and what logins stand on: nothing of them is on the disk that would have to be brought to an end. */
const OWN = 'systemd-*|dbus*|ssh.service|sshd.service|*getty@*|user@*|kiln-*';

export const POWER_OFF = `
others=
for unit in $(systemctl list-units --type=service --state=running --no-legend --plain | cut -d ' ' -f 1); do
  case $unit in ${OWN}) ;; *) others="$others $unit";; esac
done
# Written by hand, so perhaps by the template: those that did their work at the start, too.
for file in /etc/systemd/system/*.service; do
  case $file in *@.service) ;; *) [ ! -f "$file" ] || [ -L "$file" ] || others="$others \${file##*/}";; esac
done
[ -z "$others" ] || timeout 60 systemctl stop $others
# What systemd removes when it stops a unit with a /tmp of its own.
rm -rf /tmp/systemd-private-* /var/tmp/systemd-private-*
exec systemctl --force poweroff
`;
