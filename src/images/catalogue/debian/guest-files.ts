/** The files that make an installed Debian or Ubuntu root file system a cloud image, and how the image differs from plain packages. */
import type { Distribution } from './distributions.ts';

/** What the image has beyond required packages, besides those of its distribution; dependencies come by themselves, recommendations don't. */
const GUEST_PACKAGES = Object.freeze([
  // boots
  ...['systemd-sysv', 'zstd', 'udev', 'kmod', 'dbus', 'libpam-systemd'],
  // is reached, and finds its network, disk and user
  ...['openssh-server', 'sudo', 'iproute2', 'netbase', 'iputils-ping', 'systemd-resolved', 'systemd-timesyncd'],
  ...['cloud-init', 'cloud-guest-utils', 'fdisk', 'e2fsprogs'],
  // what scripts of image templates take for granted on Azure's Debian images
  ...['ca-certificates', 'curl', 'wget', 'gpg', 'apt-utils', 'lsb-release', 'procps', 'tzdata', 'xz-utils'],
  ...['less', 'vim-tiny'],
]);

/** Of a release by its code name. */
export const guestPackages = ({ packages, releases }: Distribution, release: string): readonly string[] => [
  ...GUEST_PACKAGES,
  ...packages,
  ...(releases[release] ?? []),
];

export interface GuestIdentity {
  /** UUID of the root file system. */
  readonly root: string;
  /** Serial number of the FAT file system on the EFI system partition, as `XXXX-XXXX`. */
  readonly esp: string;
}

const KERNEL_LINE = 'console=tty0 console=ttyS0,115200 consoleblank=0';

/** Path in the guest → content. All are owned by root, mode 0644, in directories of mode 0755. */
export function guestFiles(
  { name, title, kernels }: Distribution,
  { root, esp }: GuestIdentity,
): Readonly<Record<string, string>> {
  return {
    'etc/hostname': `${name}\n`,
    'etc/fstab': [
      `UUID=${root} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1`,
      // Mounted when somebody looks: a BIOS boot doesn't pay for it.
      `UUID=${esp} /boot/efi vfat umask=0077,nofail,x-systemd.automount 0 0`,
      '',
    ].join('\n'),
    'etc/default/locale': 'LANG=C.UTF-8\n',
    // The kernel's package scripts run update-grub in the guest: it must come out as the grub.cfg below.
    'etc/default/grub.d/10_cloud.cfg': [
      'GRUB_TIMEOUT=0',
      'GRUB_RECORDFAIL_TIMEOUT=0',
      `GRUB_CMDLINE_LINUX="${KERNEL_LINE}"`,
      'GRUB_DISABLE_OS_PROBER=true',
      '',
    ].join('\n'),
    'boot/grub/early.cfg': `search.fs_uuid ${root} root\nset prefix=($root)/boot/grub\n`,
    'boot/grub/grub.cfg': [
      '# As made with the image; update-grub replaces it.',
      'serial --speed=115200',
      'terminal_input console serial',
      'terminal_output console serial',
      'set timeout=0',
      `menuentry '${title}' {`,
      `  search --no-floppy --fs-uuid --set=root ${root}`,
      `  linux ${kernels}vmlinuz root=UUID=${root} ro ${KERNEL_LINE}`,
      `  initrd ${kernels}initrd.img`,
      '}',
      '',
    ].join('\n'),
    'etc/cloud/cloud.cfg.d/90_datasources.cfg': [
      '# Probing for clouds that this image never meets costs seconds at every boot.',
      'datasource_list: [ NoCloud, ConfigDrive, Azure, None ]',
      'manage_etc_hosts: true',
      '# Making an RSA key takes many seconds on an emulated processor, and no client of the last decade needs one.',
      'ssh_genkeytypes: [ ed25519, ecdsa ]',
      'ssh: { emit_keys_to_console: false }',
      '# GRUB is not reinstalled by its package here, so it need not know its disk.',
      'grub_dpkg: { enabled: false }',
      '# systemd-repart and systemd-growfs do it at every boot, seconds faster than growpart.',
      'growpart: { mode: "off" }',
      'resize_rootfs: false',
      '',
    ].join('\n'),
    // The root partition fills the disk, however large it has become.
    'etc/repart.d/50-root.conf': '[Partition]\nType=root\n',
    // For NICs that cloud-init has not configured (its own files sort first): a boot without a seed, a second NIC.
    'etc/systemd/network/90-dhcp.network': '[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n',
    // cloud-init makes the host keys where there is a data source; without one the image must answer all the same.
    'etc/systemd/system/ssh.service.d/10-host-keys.conf': [
      '[Service]',
      'ExecStartPre=',
      "ExecStartPre=/bin/sh -c 'ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || exec /usr/bin/ssh-keygen -A'",
      'ExecStartPre=/usr/sbin/sshd -t',
      '',
    ].join('\n'),
  };
}

/**
 * Runs on the host as mmdebstrap's customize hook, as the root of the new file system's user namespace; `$1` is its directory.
 * GRUB's images are made by the guest's own GRUB, so the host needs none.
 */
export const CUSTOMIZE_HOOK = `set -eu
root="$1"
chroot "$root" systemctl -q enable systemd-networkd.service
chroot "$root" systemctl -q disable e2scrub_reap.service e2scrub_all.timer
for platform in i386-pc x86_64-efi; do
  mkdir -p "$root/boot/grub/$platform"
  cp "$root/usr/lib/grub/$platform"/*.mod "$root/usr/lib/grub/$platform"/*.lst "$root/boot/grub/$platform/"
done
chroot "$root" grub-editenv /boot/grub/grubenv create
common="part_gpt ext2 search_fs_uuid normal configfile linux serial terminal echo test"
chroot "$root" grub-mkimage -O i386-pc -p /boot/grub -c /boot/grub/early.cfg -o /boot/grub/i386-pc/core.img biosdisk $common
chroot "$root" grub-mkimage -O x86_64-efi -p /boot/grub -c /boot/grub/early.cfg -o /boot/grub/x86_64-efi/core.efi fat $common
mkdir -p "$root/boot/efi"
# systemd-resolved keeps the resolv.conf that it replaced: the name servers of this host.
rm -f "$root/etc/.resolv.conf.systemd-resolved.bak"
rm -f "$root"/etc/ssh/ssh_host_* "$root"/*.old "$root"/boot/*.old "$root/var/lib/systemd/random-seed"
`;
