/**
 * What a build leaves in a guest, and what becomes of it when the image is generalized: one table for the script, its tests and `docs/generalizing.md`. The names are
 * those of virt-sysprep's operations (virt-sysprep(1), 1.48), all of them, as a checklist; what has no name there stands last.
 *
 * The rule: what a machine makes by running goes, whatever agent the image has. What only a deliberate act makes (installing, enrolling, configuring) stays, since a template may have
 * done it on purpose; where such a thing is one machine's identity, the log says that all machines made from the image will share it.
 */

export interface Trace {
  /** Of virt-sysprep; missing for what it does not know. */
  readonly operation?: string;
  /** Patterns of a POSIX shell, absolute. Constants: nothing of a template is ever in them. */
  readonly removed?: readonly string[];
  /** The file stays, with nothing in it: its daemon, or whoever packaged it, needs it to be there. */
  readonly emptied?: readonly string[];
  /** Left alone. */
  readonly kept?: readonly string[];
  /** Left alone, and the log says so where it is there: one machine's identity. */
  readonly told?: readonly string[];
  /** Gone by other means: the code that does it, in words. */
  readonly otherwise?: string;
  /** Why it is treated so. */
  readonly why: string;
  /** By default virt-sysprep leaves it alone too. */
  readonly optional?: true;
}

const in_ = (directory: string, ...names: readonly string[]) => names.map(name => `${directory}/${name}`);

/** Logs, with what logrotate(8) makes of them: nothing else that only begins so. */
const rotated = (...names: readonly string[]) => names.flatMap(name => in_('/var/log', name, `${name}.*`, `${name}-*`));

export const TRACES: readonly Trace[] = Object.freeze([
  { operation: 'abrt-data', removed: ['/var/spool/abrt/*'], why: 'crashes of the build machine, with its memory' },
  { operation: 'backup-files', kept: ['/etc/issue~'], why: 'any file may be called so' },
  {
    operation: 'bash-history',
    removed: ['/root/.bash_history', '/home/*/.bash_history'],
    why: 'what was typed while building, secrets among it',
  },
  {
    operation: 'blkid-tab',
    removed: ['/etc/blkid.tab', '/etc/blkid.tab.old', '/etc/blkid/blkid.tab', '/etc/blkid/blkid.tab.old'],
    why: 'names the build machine’s disks',
  },
  { operation: 'ca-certificates', optional: true, kept: ['/etc/pki/tls/certs/own.crt'], why: 'installed on purpose' },
  {
    operation: 'crash-data',
    removed: ['/var/crash/*', '/var/log/dump/*', '/var/lib/systemd/coredump/*'],
    why: 'crashes of the build machine, with its memory',
  },
  {
    operation: 'cron-spool',
    kept: ['/var/spool/cron/root', '/var/spool/cron/crontabs/root'],
    why: 'crontab(1) is how templates install jobs',
  },
  { operation: 'customize', otherwise: 'the template’s steps', why: 'is no trace' },
  {
    operation: 'dhcp-client-state',
    removed: [
      ...['/var/lib/dhclient/*', '/var/lib/dhcp/*', '/var/lib/dhcpcd/*', '/var/lib/wicked/*'],
      ...['/var/lib/NetworkManager/*.lease', '/var/lib/NetworkManager/secret_key', '/var/lib/systemd/network/*'],
    ],
    why: 'leases, and the identifiers that the build machine asked for them with',
  },
  {
    operation: 'dhcp-server-state',
    kept: ['/var/lib/dhcpd/dhcpd.leases'],
    why: 'a server’s data; it does not start without the file',
  },
  { operation: 'dovecot-data', kept: ['/var/lib/dovecot/ssl-parameters.dat'], why: 'a server’s data' },
  { operation: 'firewall-rules', optional: true, kept: ['/etc/sysconfig/iptables'], why: 'configured on purpose' },
  {
    operation: 'flag-reconfiguration',
    optional: true,
    otherwise: 'not done',
    why: 'would ask questions at the first boot',
  },
  { operation: 'fs-uuids', optional: true, otherwise: 'not done', why: 'fstab and boot loader name them' },
  {
    operation: 'ipa-client',
    told: ['/var/lib/ipa-client/sysrestore/sysrestore.state'],
    why: 'enrolled on purpose; undoing it half would break logins',
  },
  { operation: 'kerberos-data', optional: true, kept: ['/var/kerberos/krb5kdc/kdc.conf'], why: 'a server’s data' },
  { operation: 'kerberos-hostkeytab', told: ['/etc/krb5.keytab'], why: 'put there on purpose: it may be a service’s' },
  {
    operation: 'logfiles',
    removed: [
      ...in_('/var/log', 'journal/*/', 'audit/*', 'sa/*'),
      ...rotated('syslog', 'messages', 'kern.log', 'auth.log', 'secure', 'daemon.log', 'user.log', 'debug', 'dmesg'),
      ...rotated('boot.log', 'cron', 'cron.log', 'mail.log', 'maillog', 'spooler'),
      ...rotated('waagent.log', 'cloud-init.log', 'cloud-init-output.log'),
    ],
    emptied: in_('/var/log', 'wtmp', 'btmp', 'lastlog', 'faillog', 'tallylog'),
    kept: in_('/var/log', 'dpkg.log', 'dnf.log', 'apt/history.log', 'nginx/error.log'),
    why: 'the system’s own tell of boots, logins and sudo’s command lines; those of packages say how the image was made, and daemons may need their directories',
  },
  {
    operation: 'lvm-uuids',
    removed: ['/etc/lvm/devices/system.devices', '/etc/lvm/cache/.cache'],
    why: 'the identifiers stay, since the root may be mounted by them; the list of the build machine’s disks would hide those of others',
  },
  {
    operation: 'machine-id',
    otherwise: '/etc/machine-id is emptied, /var/lib/dbus/machine-id removed where it is a file',
    why: 'an empty file makes systemd invent an id at the next boot; an absent one makes that boot a “first boot”',
  },
  {
    operation: 'mail-spool',
    removed: ['/var/mail/root', '/var/spool/mail/root'],
    kept: ['/var/mail/somebody'],
    why: 'what the build machine’s services wrote to root; other mail can only be the template’s',
  },
  {
    operation: 'net-hostname',
    otherwise:
      'waagent sets localhost.localdomain; without it, the name that Kiln gave the machine is replaced by that one, a name of the template’s stays',
    why: 'Azure names each machine',
  },
  {
    operation: 'net-hwaddr',
    otherwise: 'ifcfg files that cloud-init has written are removed',
    why: 'others are the template’s, or the publisher’s',
  },
  {
    operation: 'net-nmconn',
    removed: ['/etc/NetworkManager/system-connections/cloud-init-*'],
    kept: ['/etc/NetworkManager/system-connections/office.nmconnection'],
    why: 'those of cloud-init name the build machine’s card; others were configured on purpose',
  },
  {
    operation: 'pacct-log',
    emptied: ['/var/account/pacct', '/var/log/account/pacct'],
    why: 'what ran while building; accton(8) needs the file',
  },
  {
    operation: 'package-manager-cache',
    kept: ['/var/cache/apt/archives/kept.deb', '/var/cache/dnf/kept.rpm'],
    why: 'tells nothing of the machine; a step that wants a small image says `apt-get clean` or `dnf clean all`',
  },
  {
    operation: 'pam-data',
    otherwise: 'lies in /run, which is not on the disk',
    why: 'failed logins at the build machine',
  },
  {
    operation: 'passwd-backups',
    removed: [
      ...in_('/etc', 'passwd-', 'shadow-', 'group-', 'gshadow-', 'subuid-', 'subgid-'),
      ...in_('/var/backups', 'passwd.bak', 'shadow.bak', 'group.bak', 'gshadow.bak'),
    ],
    why: 'name the build user',
  },
  {
    operation: 'puppet-data-log',
    told: ['/var/lib/puppet/ssl/private_keys', '/etc/puppetlabs/puppet/ssl/private_keys'],
    why: 'an agent enrolled on purpose; the rest may be modules of the template',
  },
  {
    operation: 'rh-subscription-manager',
    told: ['/etc/pki/consumer/cert.pem'],
    why: 'registered on purpose; `subscription-manager unregister` in the last step undoes it',
  },
  { operation: 'rhn-systemid', told: ['/etc/sysconfig/rhn/systemid'], why: 'registered on purpose' },
  {
    operation: 'rpm-db',
    removed: ['/var/lib/rpm/__db.*'],
    why: 'shared memory of the build machine; rpm makes it anew',
  },
  {
    operation: 'samba-db-log',
    told: ['/var/lib/samba/private/secrets.tdb'],
    why: 'holds users and shares of the template’s too',
  },
  { operation: 'script', otherwise: '/tmp/DeprovisioningScript.sh', why: 'is no trace' },
  {
    operation: 'smolt-uuid',
    removed: ['/etc/smolt/uuid', '/etc/smolt/hw-uuid', '/etc/sysconfig/hw-uuid'],
    why: 'one machine’s identity',
  },
  { operation: 'ssh-hostkeys', removed: ['/etc/ssh/ssh_host_*'], why: 'each machine makes its own' },
  {
    operation: 'ssh-userdir',
    otherwise: 'the build user goes with its home; of root’s keys the build’s own line goes',
    kept: ['/root/.ssh/config'],
    why: 'keys that the template gave its users stay',
  },
  {
    operation: 'sssd-db-log',
    kept: ['/var/lib/sss/db/cache.ldb'],
    why: 'is of use only where a domain was joined on purpose',
  },
  {
    operation: 'tmp-files',
    removed: ['/tmp/script_*', '/tmp/DeprovisioningScript.sh'],
    kept: ['/tmp/left', '/var/tmp/left'],
    why: 'Azure leaves what steps put there',
  },
  {
    operation: 'udev-persistent-net',
    removed: ['/etc/udev/rules.d/70-persistent-net.rules'],
    why: 'names the build machine’s card',
  },
  {
    operation: 'user-account',
    optional: true,
    otherwise: 'the build user is removed',
    why: 'others are the template’s',
  },
  {
    operation: 'utmp',
    otherwise: 'lies in /run, which is not on the disk',
    removed: ['/var/lib/wtmpdb/wtmp.db', '/var/lib/lastlog/lastlog2.db'],
    why: 'logins at the build machine; newer systems keep them in databases',
  },
  {
    operation: 'yum-uuid',
    removed: ['/var/lib/yum/uuid', '/var/lib/zypp/AnonymousUniqueId'],
    why: 'counts machines',
  },
  {
    removed: [
      ...['/var/lib/cloud/*', '/run/cloud-init', '/etc/netplan/50-cloud-init.yaml'],
      ...['/etc/network/interfaces.d/50-cloud-init*', '/etc/systemd/network/10-cloud-init-*'],
      ...['/etc/sudoers.d/90-cloud-init-users'],
    ],
    otherwise:
      '/etc/ssh/sshd_config.d/50-cloud-init.conf is removed while it has only the line that Kiln’s seed asks for',
    why: 'what cloud-init made of the build machine’s seed; `cloud-init clean` would take seconds where the processor is emulated, and do less',
  },
  {
    removed: in_(
      '/var/lib',
      'systemd/random-seed',
      'systemd/credential.secret',
      'urandom/random-seed',
      'random-seed',
      'misc/random-seed',
    ),
    why: 'two machines must not begin with the same randomness',
  },
  {
    removed: ['/var/lib/systemd/timers/stamp-*'],
    why: 'say when timers last fired: another machine would make up for what they missed since, at its first boot',
  },
  {
    kept: ['/etc/iscsi/initiatorname.iscsi', '/etc/nvme/hostnqn'],
    why: 'made when a package is installed; the distributions’ images ship them empty, or not at all',
  },
]);

const all = (field: 'removed' | 'emptied' | 'told') => TRACES.flatMap(trace => trace[field] ?? []);

export const REMOVED: readonly string[] = Object.freeze(all('removed'));
export const EMPTIED: readonly string[] = Object.freeze(all('emptied'));
export const TOLD: readonly string[] = Object.freeze(all('told'));
