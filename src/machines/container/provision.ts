/** What a machine that boots gets from its first boot: a build user with sudo, and a machine-id, which generalizing removes again; and where the image says so, an empty /tmp. */
import type { Provisioning } from '../machine.ts';
import { SUDOERS_FILE } from '../qemu/credentials.ts';

/** What systemd is told in virtual machines; another where the image has given it away. */
const USER_ID = 1000;

/**
 * Files and users that steps make get the same numbers as in a virtual machine: cloud-init lets useradd choose, which takes the one behind the highest, and gives ranges of
 * subordinate ids (subuid(5)); systemd gives no ranges.
 */
const SYSTEMD = `--key SUB_UID_COUNT=0 --key SUB_GID_COUNT=0 \${id:+--uid $id} `;

/** Runs as root, from standard input. */
export const provisionScript = (user: string, provisioning: Provisioning): string => `
set -eu
for f in /tmp/* /tmp/.[!.]* /tmp/..?*; do
  [ -e "$f" ] || [ -L "$f" ] || continue
  ! command -v systemd-tmpfiles >/dev/null || systemd-tmpfiles --remove --boot --prefix=/tmp || true
  break
done
id=${USER_ID}
getent passwd $id >/dev/null && id=
useradd ${provisioning === 'cloud-init' ? '' : SYSTEMD}--create-home --shell /bin/bash --comment 'Kiln build user' ${user}
passwd --lock ${user} >/dev/null 2>&1 || true
command -v sudo >/dev/null || { echo 'The image has no sudo, which steps run with.' >&2; exit 1; }
umask 337
echo '${user} ALL=(ALL) NOPASSWD:ALL' > ${SUDOERS_FILE}
umask 022
[ -s /etc/machine-id ] && [ "$(cat /etc/machine-id)" != uninitialized ] || { rm -f /etc/machine-id; systemd-machine-id-setup >/dev/null 2>&1 || tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id; }
`;

/** For a machine that goes on from a layer, which holds the build user already: an id that no other one has. */
export const RENEWAL = `
set -eu
rm -f /etc/machine-id
tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
chmod 444 /etc/machine-id
[ -L /var/lib/dbus/machine-id ] || [ ! -e /var/lib/dbus/machine-id ] || cp /etc/machine-id /var/lib/dbus/machine-id
`;
