/** When a booted guest is ready to be worked on: cloud-init has finished, and nobody holds the package manager. */
import { oneLine } from './loss.ts';

/**
 * One round trip: waits inside the guest. `result.json` appears when cloud-init is done; asking `cloud-init status --wait` would start a Python
 * interpreter, seconds when emulated. Locks are found by inode in /proc/locks, because apt and rpm use fcntl locks, which flock(1) cannot see.
 * Without cloud-init the system has settled when systemd has no more jobs. Prints what cloud-init reports.
 */
export const SETTLE_SCRIPT = `
if [ -d /run/cloud-init ] && [ ! -e /run/cloud-init/disabled ]; then
  until [ -e /run/cloud-init/result.json ]; do sleep 0.2; done
else
  systemctl is-system-running --wait >/dev/null 2>&1
fi
held() {
  for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock \\
    /var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock /var/lib/zypp/zypp.lock; do
    [ -e "$file" ] || continue
    inode=$(stat -c %i "$file") || continue
    while read -r line; do
      case "$line" in *":$inode "*) echo "waiting for $file"; return 0;; esac
    done < /proc/locks
  done
  for file in /var/cache/dnf/metadata_lock.pid /var/cache/dnf/download_lock.pid /var/lib/dnf/rpmdb_lock.pid /run/yum.pid /run/zypp.pid; do
    pid=
    # Without an end of line read fails, and has read it all the same.
    [ -s "$file" ] && { read -r pid < "$file" || true; } && [ -n "$pid" ] && [ -d "/proc/$pid" ] && echo "waiting for $file" && return 0
  done
  return 1
}
while held >&2; do sleep 1; done
cat /run/cloud-init/result.json 2>/dev/null || true
`;

/** Plain sentences of one line about what cloud-init complained of; empty when all went well. The text comes from the guest: untrusted. */
export function cloudInitComplaints(resultJson: string): string[] {
  let errors: unknown;
  try {
    errors = (JSON.parse(resultJson) as { v1?: { errors?: unknown } }).v1?.errors;
  } catch {
    return [];
  }
  if (!Array.isArray(errors)) return [];
  return errors.slice(0, 20).map(error => `cloud-init in the guest reports: ${oneLine(String(error)).slice(0, 500)}`);
}
