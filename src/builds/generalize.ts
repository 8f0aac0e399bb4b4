/**
 * The generalize phase: the traces of this one machine leave the disk, so that every machine made from the image is its own.
 * First what Azure runs (the image's waagent, or the user's /tmp/DeprovisioningScript.sh), then, whichever it was,
 * the parts that a finished image must not have.
 */
import { KilnError } from '../arm/errors.ts';
import type { ExecResult } from '../machines/machine.ts';
import { SUDOERS_FILE } from '../machines/qemu/credentials.ts';
import { GUEST_HOSTNAME } from '../machines/qemu/seed.ts';
import { tail } from './customizers/step.ts';
import { linesBefore } from './lines-before.ts';
import type { GuestIdentity, Phase } from './phase.ts';
import { RELABEL } from './selinux.ts';
import { EMPTIED, REMOVED, TOLD } from './traces.ts';

/** What the script prints behind what identified the machine: what follows is for the log. */
const IDENTIFIED = '--';

/** With this the script says that deprovisioning itself failed. */
const DEPROVISION_FAILED = 90;

/**
 * Runs as root in one go, and says first who the machine is: deprovisioning changes the host's name, and every further sudo would wait for a name server that
 * no longer answers. Azure's documented default is `/usr/sbin/waagent -force -deprovision+user && export HISTSIZE=0 && sync`, of which only the first leaves something
 * in an image; a template overrides it by writing /tmp/DeprovisioningScript.sh. Then, whichever it was, and where there was neither, what {@link TRACES} lists; the build user
 * goes last, while its own session is still open (userdel -f). Each process costs 80 ms where the processor is emulated: what the shell can do itself, it does.
 */
export const generalizeScript = (user: string) => `
set -u
# As sudo has it, who runs the same on Azure.
export HOME=/root USER=root LOGNAME=root SUDO_USER=${user}
cd ~${user} 2>/dev/null || cd /
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
waagent=
for f in "$(command -v waagent)" /usr/sbin/waagent /usr/bin/waagent; do [ -f "$f" ] && waagent=$f && break; done
deprovision() {
  read -r begun rest < /proc/uptime
  "$@" </dev/null || { echo "It ended with exit code $?." >&2; exit ${DEPROVISION_FAILED}; }
  read -r ended rest < /proc/uptime
  echo "It took $(( \${ended%.*}\${ended#*.} - \${begun%.*}\${begun#*.} ))0 ms."
}
# An agent is a script whose first line may name a python that the image has not: its unit then says python3 -u.
agent() {
  "$waagent" -force -deprovision+user
  code=$?
  case $code in 126 | 127) ;; *) return $code ;; esac
  command -v python3 >/dev/null || return $code
  python3 -u "$waagent" -force -deprovision+user
}
if [ -e /tmp/DeprovisioningScript.sh ]; then
  echo "Running the template's /tmp/DeprovisioningScript.sh."
  deprovision sh /tmp/DeprovisioningScript.sh
elif [ -n "$waagent" ]; then
  echo 'Running waagent -force -deprovision+user.'
  deprovision agent
elif command -v cloud-init >/dev/null; then
  echo 'The image has no waagent, only cloud-init; Kiln removes the traces itself.'
else
  echo 'The image has neither waagent nor cloud-init; Kiln removes the traces itself. On Azure nothing would give its machines a user.'
fi
echo 'Removing what is left of the build machine.'
has() { while IFS=: read -r name rest; do [ "$name" = "$1" ] && return 0; done < "$2"; return 1; }
wait
# cloud-init gives root the build's key too, with a command that refuses; keys that the template gave root stay.
if [ -f /root/.ssh/authorized_keys ]; then
  sed -i '/Please login as the user/d' /root/.ssh/authorized_keys
  [ -s /root/.ssh/authorized_keys ] || rm -f /root/.ssh/authorized_keys
fi
for f in ${EMPTIED.join(' ')}; do [ ! -e $f ] || : > $f; done
[ -e /etc/resolv.conf ] || [ ! -e /lib/systemd/systemd-resolved ] || ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
if [ -f /etc/hostname ] && read -r name < /etc/hostname && [ "$name" = ${GUEST_HOSTNAME} ]; then echo localhost.localdomain > /etc/hostname; fi
# Truncated, not removed: an empty file makes systemd invent an id at the next boot, an absent one makes that boot a "first boot".
: > /etc/machine-id
chmod 0444 /etc/machine-id
[ -L /var/lib/dbus/machine-id ] || set -- /var/lib/dbus/machine-id
for f in /etc/sysconfig/network-scripts/ifcfg-*; do
  [ -f "$f" ] && read -r name < "$f" && case $name in *cloud-init*) set -- "$@" "$f" ;; esac
done
# What cloud-init makes of the seed's ssh_pwauth; a step may have written something else into it.
f=/etc/ssh/sshd_config.d/50-cloud-init.conf
[ -f $f ] && [ "$(cat $f)" = 'PasswordAuthentication no' ] && set -- "$@" $f
userdel -f -r ${user} 2>/dev/null
has ${user} /etc/group && groupdel ${user} 2>/dev/null
# Made at every boot; a machine that was never booted has none.
rmdir /tmp/.X11-unix /tmp/.ICE-unix /tmp/.XIM-unix /tmp/.font-unix 2>/dev/null
rm -rf "$@" ${SUDOERS_FILE} ${REMOVED.join(' ')}
if has ${user} /etc/passwd || [ -d /home/${user} ]; then echo 'The build user could not be removed.' >&2; exit 1; fi
for f in /etc/machine-id /etc/ssh/ssh_host_*_key; do
  if [ -s "$f" ]; then echo 'Identity of the build machine is left.' >&2; exit 1; fi
done
for f in ${TOLD.join(' ')}; do
  [ ! -e $f ] || echo "The image keeps $f: all machines made from it share that identity."
done
${RELABEL}
# Blocks that were freed since the last commit of the journal are not trimmed. Of this file system alone: a container would wait for all that the host writes. coreutils
# before 8.24 know no -f.
sync -f / 2>/dev/null || sync
fstrim / 2>/dev/null || true
`;

export function generalizePhase(): Phase {
  return {
    kind: 'generalize',
    name: 'waagent, or the template’s own script',
    subState: 'Customizing',
    inputs: { script: generalizeScript('user') },
    async run(state, context) {
      const machine = state.machine!;
      const identity = linesBefore(IDENTIFIED);
      const last = tail(context.log.redact);
      const result = await machine.asRoot(generalizeScript(machine.user), {
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
