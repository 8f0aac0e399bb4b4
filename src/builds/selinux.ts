/** What the files of a guest with SELinux need before its disk becomes an image: labels. Without them sshd and others are refused at the first boot. */

/**
 * A part of a POSIX shell script that runs as root in the guest. Where its own kernel runs, the policy has labelled all files but for those that were written in other
 * places than they belong to; in a container, or with the kernel's selinux=0, new files have no label, so all get theirs. `-m` and `-e`: no mount of a host without
 * SELinux says that it keeps labels, and those that cannot are left out by name. What cannot be labelled here is labelled by the first boot, which then boots once more.
 */
export const RELABEL = `mode= policy=
if [ -f /etc/selinux/config ]; then
  while IFS='=' read -r key value; do
    case $key in SELINUX) mode=$value ;; SELINUXTYPE) policy=$value ;; esac
  done < /etc/selinux/config
fi
contexts=/etc/selinux/$policy/contexts/files/file_contexts
case $mode in enforcing | permissive) [ -f "$contexts" ] || mode= ;; *) mode= ;; esac
if [ -n "$mode" ] && [ -e /sys/fs/selinux/enforce ]; then
  restorecon /etc/machine-id /etc/hostname /etc/resolv.conf 2>/dev/null
elif [ -n "$mode" ]; then
  echo 'Labelling all files for SELinux.'
  setfiles -m -F -e /proc -e /sys -e /dev -e /run -e /boot/efi -e /etc/resolv.conf "$contexts" / || {
    echo 'Not all files could be labelled: the first boot does it, and then boots once more.'
    : > /.autorelabel
  }
fi`;
