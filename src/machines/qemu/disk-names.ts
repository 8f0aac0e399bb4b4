/**
 * The names of data disks in a build machine: /dev/disk/azure/scsi1/lunN, and -partM behind it, as the rules of Azure's guest agent make them on Azure. Those rules ask
 * for what only Hyper-V tells. These lie in /run: they are in no image.
 */

const RULES = '/run/udev/rules.d/66-kiln-data-disks.rules';

/** Runs as root, from standard input. Names are there when it ends. */
export function namesScript(luns: readonly number[]): string {
  const rules = luns.flatMap(lun => {
    const unit = `SUBSYSTEM=="block", SUBSYSTEMS=="scsi", KERNELS=="*:0:0:${lun}"`;
    const name = `SYMLINK+="disk/azure/scsi1/lun${lun}`;
    return [`${unit}, ENV{DEVTYPE}=="disk", ${name}"`, `${unit}, ENV{DEVTYPE}=="partition", ${name}-part%n"`];
  });
  return `
set -e
mkdir -p ${RULES.slice(0, RULES.lastIndexOf('/'))}
cat > ${RULES} <<'RULES'
${rules.join('\n')}
RULES
udevadm control --reload
udevadm trigger --action=change --subsystem-match=block
udevadm settle
for lun in ${luns.join(' ')}; do
  # A busy guest may still be looking at its controller.
  for try in 1 2 3 4 5 6 7 8 9 10; do
    [ -b /dev/disk/azure/scsi1/lun$lun ] && break
    sleep 1
  done
  [ -b /dev/disk/azure/scsi1/lun$lun ] || { echo "there is no disk at LUN $lun" >&2; exit 1; }
done
`;
}
