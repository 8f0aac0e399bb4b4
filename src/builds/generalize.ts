/**
 * The generalize phase: the traces of this one machine leave the disk, so that every machine made from the image is its own.
 * First what Azure runs (the image's waagent, or the user's /tmp/DeprovisioningScript.sh), then, whichever it was,
 * the parts that a finished image must not have.
 */
import { KilnError } from '../arm/errors.ts';
import type { ExecResult } from '../machines/machine.ts';
import { SUDOERS_FILE } from '../machines/qemu/credentials.ts';
import { tail } from './customizers/step.ts';
import { linesBefore } from './lines-before.ts';
import type { GuestIdentity, Phase } from './phase.ts';

/** What the script prints behind what identified the machine: what follows is for the log. */
const IDENTIFIED = '--';

/** With this the script says that deprovisioning itself failed. */
const DEPROVISION_FAILED = 90;

/**
 * Runs as root, from standard input, in one go, and says first who the machine is: deprovisioning changes the host's name, and every further sudo would wait for a name server that
 * no longer answers. Azure's documented default is `/usr/sbin/waagent -force -deprovision+user && export HISTSIZE=0 && sync`; a template overrides it by
 * writing /tmp/DeprovisioningScript.sh. Then what virt-sysprep's default operations remove, for the traces that a build leaves; the build user goes last,
 * while its own session is still open (userdel -f).
 */
const script = (user: string) => `
set -u
printf '\\n%s\\n' "$(cat /etc/machine-id 2>/dev/null)"
cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | cut -d ' ' -f 1,2
echo ${IDENTIFIED}
# Beside deprovisioning. The first may take seconds over ending, when it waits for a name server. The second writes a new seed at power-off, unless it has
# stopped before. The running journal goes on in /run: it would make its directory anew, under this machine's id.
{
  systemctl -q --no-block stop systemd-timesyncd.service
  systemctl -q stop systemd-random-seed.service
  journalctl --relinquish-var
} >/dev/null 2>&1 &
waagent=$(command -v waagent || ls /usr/sbin/waagent 2>/dev/null)
deprovision() {
  read -r begun rest < /proc/uptime
  "$@" </dev/null || { echo "It ended with exit code $?." >&2; exit ${DEPROVISION_FAILED}; }
  read -r ended rest < /proc/uptime
  echo "It took $(( \${ended%.*}\${ended#*.} - \${begun%.*}\${begun#*.} ))0 ms."
}
if [ -e /tmp/DeprovisioningScript.sh ]; then
  echo "Running the template's /tmp/DeprovisioningScript.sh."
  deprovision sh /tmp/DeprovisioningScript.sh
elif [ -n "$waagent" ]; then
  echo 'Running waagent -force -deprovision+user.'
  deprovision "$waagent" -force -deprovision+user
else
  echo 'The image has no waagent; Kiln removes the traces itself.'
fi
echo 'Removing what is left of the build machine.'
has() { while IFS=: read -r name rest; do [ "$name" = "$1" ] && return 0; done < "$2"; return 1; }
wait
# cloud-init gives root the build's key too, with a command that refuses; keys that the template gave root stay.
if [ -f /root/.ssh/authorized_keys ]; then
  sed -i '/Please login as the user/d' /root/.ssh/authorized_keys
  [ -s /root/.ssh/authorized_keys ] || rm -f /root/.ssh/authorized_keys
fi
for f in /var/log/wtmp /var/log/btmp /var/log/lastlog; do [ ! -e $f ] || : > $f; done
[ -e /etc/resolv.conf ] || [ ! -e /lib/systemd/systemd-resolved ] || ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
# Truncated, not removed: an empty file makes systemd invent an id at the next boot, an absent one makes that boot a "first boot".
: > /etc/machine-id
chmod 0444 /etc/machine-id
[ -L /var/lib/dbus/machine-id ] || set -- /var/lib/dbus/machine-id
userdel -f -r ${user} 2>/dev/null
has ${user} /etc/group && groupdel ${user} 2>/dev/null
# Made at every boot; a machine that was never booted has none.
rmdir /tmp/.X11-unix /tmp/.ICE-unix /tmp/.XIM-unix /tmp/.font-unix 2>/dev/null
# One process for all: under emulation each takes its time. The stamps say when timers last fired, here: another machine would make up for all that
# they missed since, at its first boot.
rm -rf "$@" /etc/ssh/ssh_host_* /var/lib/cloud/* /var/log/cloud-init.log /var/log/cloud-init-output.log /run/cloud-init \
  /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* /etc/systemd/network/10-cloud-init-* \
  /etc/NetworkManager/system-connections/cloud-init-* /etc/sysconfig/network-scripts/ifcfg-eth0 /etc/udev/rules.d/70-persistent-net.rules \
  /var/lib/dhcp/* /var/lib/dhclient/* /var/lib/dhcpcd/* /var/lib/NetworkManager/*.lease /var/lib/systemd/network/* \
  /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/urandom/random-seed /root/.bash_history \
  /tmp/script_* /tmp/DeprovisioningScript.sh /var/log/journal/*/ /var/log/waagent.log* /var/lib/systemd/timers/stamp-* \
  /etc/sudoers.d/90-cloud-init-users ${SUDOERS_FILE} /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
if has ${user} /etc/passwd || [ -d /home/${user} ]; then echo 'The build user could not be removed.' >&2; exit 1; fi
for f in /etc/machine-id /etc/ssh/ssh_host_*_key; do
  if [ -s "$f" ]; then echo 'Identity of the build machine is left.' >&2; exit 1; fi
done
# Blocks that were freed since the last commit of the journal are not trimmed.
sync
fstrim / 2>/dev/null || true
`;

export function generalizePhase(): Phase {
  return {
    kind: 'generalize',
    name: 'waagent, or the template’s own script',
    subState: 'Customizing',
    inputs: { script: script('user') },
    async run(state, context) {
      const machine = state.machine!;
      const identity = linesBefore(IDENTIFIED);
      const last = tail();
      const result = await machine.exec('sudo sh -s', {
        stdin: script(machine.user),
        signal: context.signal,
        output(chunk, stream) {
          const rest = stream === 'stdout' ? identity.take(chunk) : chunk;
          last.push(rest);
          context.log.guest(rest, stream);
        },
      });
      context.log.flush();
      if (result.exitCode !== 0) throw failed(result, last.lines());
      return { state: { ...state, identity: identityIn(identity.lines()) } };
    },
  };
}

/** By what the lines look like: a template may have emptied the one file or removed the others, and a shell's profile may say something of its own. */
export function identityIn(lines: readonly string[]): GuestIdentity {
  return {
    machineId: lines.find(line => /^[0-9a-f]{32}$/.test(line)) ?? '',
    hostKeys: lines.filter(line => /^[a-z][\w@.-]* AAAA/.test(line)),
  };
}

function failed({ exitCode, signal }: ExecResult, lines: readonly string[]): KilnError {
  const said = `Last lines:\n${lines.map(line => `    ${line}`).join('\n')}`;
  if (exitCode === DEPROVISION_FAILED)
    return new KilnError('BuildFailed', `Deprovisioning failed. ${said}`, {
      target: 'generalize',
      hint: 'If the template writes /tmp/DeprovisioningScript.sh, run it by hand in a Shell step to see what it does.',
    });
  const how = signal ? `signal ${signal}` : `exit code ${exitCode}`;
  return new KilnError('BuildFailed', `Removing the traces of the build machine ended with ${how}. ${said}`, {
    target: 'generalize',
  });
}
