/** The reference of `properties.customize`. */
import { ofKinds, type Section, type Text } from './section.ts';

export const WINDOWS: Text = [
  'Checked, kept and shown; a run is refused with `NotSupported`.',
  'Kiln builds Linux only.',
];

export const SCRIPT_URI =
  'http or https; the server’s own storage accounts by SAS or by the role of the template’s identity; with `kiln build` also a path. Fetched when the template is made and kept by its checksum: builds use those bytes, whatever the URL gives later.';
const LOCAL_PATHS =
  'Local paths are for whoever builds at the host. Addresses inside the host’s own network are refused unless the operator allows them.';
export const CHECKSUM: Text = [
  'SHA-256 in hexadecimal; compared when the template is made, filled in where it is missing, as Azure does.',
];

const place = 'properties.customize[]';

export const customizeSection: Section = {
  title: 'customize',
  intro: 'Steps, one after the other, in the booted source. The first one that fails ends the build.',
  rows: {
    'properties.customize': [
      'Optional: an image can be built without steps. Whatever a step leaves is in the image, except what [generalizing](generalizing.md) removes.',
    ],
    ...ofKinds(place, ['Shell', 'File', 'PowerShell', 'WindowsRestart', 'WindowsUpdate'], {
      name: ['For logs, plans, `--fresh` and `--from`. Names may repeat.'],
    }),
    [`${place}(Shell).type`]: [
      'Runs as the build user, who has sudo without a password, with `/bin/sh` and without a terminal, as Packer does.',
    ],
    [`${place}(Shell).scriptUri`]: [
      `Exactly one of \`scriptUri\` and \`inline\`. ${SCRIPT_URI} Runs by its own first line.`,
      LOCAL_PATHS,
    ],
    [`${place}(Shell).sha256Checksum`]: CHECKSUM,
    [`${place}(Shell).inline`]: ['Lines that become one script for `/bin/sh -e`. They are not in the log.'],
    [`${place}(File).type`]: ['One file, streamed into the guest.'],
    [`${place}(File).sourceUri`]: [SCRIPT_URI, LOCAL_PATHS],
    [`${place}(File).sha256Checksum`]: CHECKSUM,
    [`${place}(File).destination`]: [
      'A path in the guest; with a slash at its end the directory into which the file goes. The directory must be there, and the build user must be able to write to it: in practice below /tmp.',
      'Up to 4 GiB through the API, any size with `kiln build`, instead of 20 MB: nothing here has to hold it in memory.',
    ],
    [`${place}(PowerShell).type`]: WINDOWS,
    ...ofKinds(place, ['PowerShell'], {
      scriptUri: WINDOWS,
      sha256Checksum: WINDOWS,
      inline: WINDOWS,
      runElevated: WINDOWS,
      runAsSystem: [`Only together with \`runElevated\`. ${WINDOWS[0]}`, WINDOWS[1]!],
      validExitCodes: WINDOWS,
    }),
    [`${place}(WindowsRestart).type`]: WINDOWS,
    [`${place}(WindowsRestart).restartCommand`]: WINDOWS,
    [`${place}(WindowsRestart).restartCheckCommand`]: WINDOWS,
    [`${place}(WindowsRestart).restartTimeout`]: WINDOWS,
    [`${place}(WindowsUpdate).type`]: WINDOWS,
    [`${place}(WindowsUpdate).searchCriteria`]: WINDOWS,
    [`${place}(WindowsUpdate).filters`]: WINDOWS,
    [`${place}(WindowsUpdate).updateLimit`]: WINDOWS,
  },
};
