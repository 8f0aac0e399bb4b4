/** The reference of `properties.validate`, `properties.optimize`, and of how and where a template is built. */
import { ofKinds, type Section, type Text } from './section.ts';
import { CHECKSUM, SCRIPT_URI, WINDOWS } from './texts-customize.ts';

const validators = 'properties.validate.inVMValidations[]';

export const validateSection: Section = {
  title: 'validate',
  intro:
    'Tests in a second machine, booted from the finished, generalized image: the same one that proves that it boots. What they print is in validation.log. A failed validator fails the run, whatever was distributed.',
  rows: {
    'properties.validate': ['Optional.'],
    'properties.validate.continueDistributeOnFailure': [
      'Whether an image of which a validator complains is distributed all the same; the other validators are left out. The run is `Failed` either way.',
    ],
    'properties.validate.sourceValidationOnly': [
      'Nothing is built or distributed: the validators run in a machine booted from the source.',
    ],
    'properties.validate.inVMValidations': ['In order, in one machine.'],
    ...ofKinds(validators, ['Shell', 'PowerShell', 'File'], { name: ['For logs and plans.'] }),
    [`${validators}(Shell).type`]: ['As the customizer of the name.'],
    [`${validators}(Shell).scriptUri`]: [`Exactly one of \`scriptUri\` and \`inline\`. ${SCRIPT_URI}`],
    [`${validators}(Shell).sha256Checksum`]: CHECKSUM,
    [`${validators}(Shell).inline`]: ['As of the customizer.'],
    [`${validators}(File).type`]: ['As the customizer of the name: for what a validator after it needs.'],
    [`${validators}(File).sourceUri`]: [SCRIPT_URI],
    [`${validators}(File).sha256Checksum`]: CHECKSUM,
    [`${validators}(File).destination`]: ['As of the customizer.'],
    [`${validators}(PowerShell).type`]: WINDOWS,
    ...ofKinds(validators, ['PowerShell'], {
      scriptUri: WINDOWS,
      sha256Checksum: WINDOWS,
      inline: WINDOWS,
      runElevated: WINDOWS,
      runAsSystem: WINDOWS,
      validExitCodes: WINDOWS,
    }),
  },
};

const LAID_OUT =
  'Azure does not say what it does. VHDs stay as they are, and the log says so where there is nothing else: each of their blocks has one place ([optimizing](optimizing.md)).';
const KEPT: Text = [
  '`abort` keeps the machine of the failed step for an hour: `kiln runs show` says how to get in, `kiln runs drop` ends it. Two at a time (`kiln serve --keep`).',
  'Azure keeps it until somebody deletes it. For `kiln build` the command line decides (`--on-error`).',
];
const SUBNET: Text = [
  'Checked when the template is made, changed and run: that it is there, in the template’s region, may be joined, and has the policy or delegation that Azure asks for.',
  'Nothing is put into the network: the machine reaches out through the host, from a namespace of its own.',
];

export const buildSection: Section = {
  title: 'How and where it is built',
  rows: {
    'properties.optimize': [
      'The finished image is booted once more, and what is read of it moves to the beginning of the qcow2 file of managed images and gallery versions, in the order in which it was needed: a first boot from a copy that is far away fetches less. The log and the run’s record say how much.',
      LAID_OUT,
    ],
    'properties.optimize.vmBoot': ['A boot alone counts, from power-on until the guest has settled.'],
    'properties.optimize.vmBoot.state': ['`Enabled` or `Disabled`.', LAID_OUT],
    'properties.optimize.workload': [
      'The template’s script runs in that guest, as Shell customizers do; what it reads comes behind what the boot reads. The same with `vmBoot` and without it. Nothing that it writes gets into the image.',
      'A script that fails ends the run.',
    ],
    'properties.optimize.workload.state': ['`Enabled` takes a `scriptUri`; else the template is refused.'],
    'properties.optimize.workload.scriptUri': [SCRIPT_URI],
    'properties.optimize.workload.sha256Checksum': CHECKSUM,
    'properties.errorHandling': ['What becomes of the machine of a step that failed.'],
    'properties.errorHandling.onCustomizerError': KEPT,
    'properties.errorHandling.onValidationError': KEPT,
    'properties.buildTimeoutInMinutes': [
      'From the second in which a worker takes the run up (not while it is `Queued`: `startTime` is earlier then) to the last replica; 0 is 240. Where another worker takes it over, the time goes on. What is published when it is over stays: the run is then `PartiallySucceeded`. 1 to 5 are refused when the template is made.',
      'Four times as long where the processor is emulated. Azure takes 1 to 5, and its builds fail then because their token is too short-lived.',
    ],
    'properties.vmProfile': ['What the machine that builds is like. Can be changed by PATCH from 2024-02-01 on.'],
    'properties.vmProfile.vmSize': [
      'Processors and memory of that size of Azure’s; empty is Standard_D1_v2 for V1, Standard_D2ds_v4 for V2. A run with a size that Kiln does not know is refused.',
      'Cut to what the host has, half of its memory at most, which the log says. Other properties of a size (GPUs, local disks) there are none of.',
    ],
    'properties.vmProfile.osDiskSizeGB': [
      'The disk grows to so many GiB before it boots; the guest grows its file system, as in Azure. 0 is the size of the source; a smaller number changes nothing, which the log says. At most 4095, for a VHD 2040.',
    ],
    'properties.vmProfile.userAssignedIdentities': [
      'Checked (the template’s identity has to be allowed to assign them), kept and shown.',
      'Has no effect: there is no identity endpoint in the machine that builds, which the log says.',
    ],
    'properties.vmProfile.vnetConfig': ['The rules of subnets.', SUBNET[1]!],
    'properties.vmProfile.vnetConfig.subnetId': SUBNET,
    'properties.vmProfile.vnetConfig.containerInstanceSubnetId': [
      'Only with `subnetId`, another subnet of the same network, delegated to container groups.',
      SUBNET[1]!,
    ],
    'properties.vmProfile.vnetConfig.proxyVmSize': [
      'Not together with `containerInstanceSubnetId`; kept and shown.',
      'There is no proxy machine.',
    ],
    'properties.additionalDataDisks': [
      'Empty disks of the machine that builds, at the lowest LUNs that the source’s own data disks leave free; steps find them below /dev/disk/azure/scsi1. Managed images and gallery versions have them as data disks, at the same LUNs. At most 64 with the source’s.',
      'A container machine refuses them.',
    ],
    'properties.additionalDataDisks[].sizeGB': [
      '1 to 32767 GiB; a run with another number, or none, is refused.',
      'Azure’s schema takes 0 and none; what becomes of such a disk it does not say.',
    ],
    'properties.stagingResourceGroup': [
      'Empty: a group with a generated name. A name that is free: made with it. A group that exists: used, if it is empty and in the template’s subscription and region; it stays when the template is deleted, without what Kiln put there. With or without its first slash.',
    ],
    'properties.exactStagingResourceGroup': [
      'The group that it has become. In it: a storage account with the logs (`packerlogs`) and VHDs (`vhds`) as blobs; while a run has its virtual machine, that machine, its disks and its network interface.',
    ],
    'properties.autoRun': ['Whether the template is built at once.'],
    'properties.autoRun.state': [
      '`Enabled`: a run begins when the template has been made, and when distributors or the machine’s profile have been changed.',
    ],
    'properties.managedResourceTags': [
      'Tags of the staging group and of what is made in it. Kiln’s own win over them.',
    ],
    'properties.provisioningState': [
      '`Creating`, `Updating`, `Succeeded`, `Failed`, `Deleting`, `Canceled`. What Failed can only be deleted.',
    ],
    'properties.provisioningError': [
      '`provisioningErrorCode` (of Azure’s list) and `message` of a creation that failed: Azure’s sentence where there is one, then which step and why.',
    ],
    'properties.lastRunStatus': [
      '`startTime`, `endTime`, `runState`, `runSubState` (while it runs: Queued, Building, Customizing, Optimizing, Validating, Distributing, in this order) and `message` of the newest run.',
      'The message goes on where Azure’s ends: which step, its exit code and last lines.',
    ],
  },
};
