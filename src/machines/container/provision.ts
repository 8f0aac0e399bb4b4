/** What a machine that boots gets from its first boot: a build user with sudo, and a machine-id. Generalizing removes both again. */
import type { Provisioning } from '../machine.ts';
import { SUDOERS_FILE } from '../qemu/credentials.ts';

/** The first id that Debian, Ubuntu and cloud-init give to a person; another where the image has given it away. */
const USER_ID = 1000;

/** systemd gives its users no ranges of subordinate ids (subuid(5)), cloud-init does: users that steps make get the same ranges as in a virtual machine. */
const NO_RANGES = '--key SUB_UID_COUNT=0 --key SUB_GID_COUNT=0 ';

/** Runs as root, from standard input. */
export const provisionScript = (user: string, provisioning: Provisioning): string => `
set -eu
id=${USER_ID}
getent passwd $id >/dev/null && id=
useradd ${provisioning === 'cloud-init' ? '' : NO_RANGES}--create-home --shell /bin/bash --comment 'Kiln build user' \${id:+--uid $id} ${user}
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
