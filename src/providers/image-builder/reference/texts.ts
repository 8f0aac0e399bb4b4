/**
 * What the template reference says of each property: what Kiln does with it, and what is different from Azure and why. By the paths of properties.ts; a test
 * holds the two against each other. The parts of a template that are large have files of their own.
 */
import type { Section, Text } from './section.ts';
import { buildSection, validateSection } from './texts-build.ts';
import { customizeSection } from './texts-customize.ts';
import { distributeSections } from './texts-distribute.ts';
import { sourceSection } from './texts-source.ts';

const IGNORED: Text = ['Taken and dropped: the URL says which resource it is.'];

export const SECTIONS: readonly Section[] = [
  {
    title: 'The template itself',
    rows: {
      location: [
        'One of the names of Azure’s regions; where the template is, its staging group and its VHDs. A region is a directory of the state directory.',
        'All regions of Azure, not only those where Image Builder is offered: no data centre stands behind them.',
      ],
      tags: [
        'Kept, shown, replaced as a whole by PATCH; Azure’s limits. Tags that begin with `kiln.` tell Kiln what no field of Azure’s can: `kiln.bootProof` = `off`, `kiln.machine` = `container`, `kiln.cache` and `kiln.cache.STEP` = `never`.',
        'The meaning of the tags `kiln.*`: fields of our own would be refused by the real service, so templates with tags work in both places.',
      ],
      identity: [
        'Whom the template acts as. Its rights on source, targets, networks and scripts are looked at when it is made, changed and run. Required from 2020-02-14 on; `kiln build` gives a template without one an identity.',
      ],
      'identity.type': ['`None` takes the identity away; nothing that needs rights can be built then.'],
      'identity.userAssignedIdentities': [
        'The id of one identity, with `{}` as value; several are refused, as in Azure. In a PATCH null removes one.',
      ],
      'identity.userAssignedIdentities.*.principalId': [
        'Shown once the template is provisioned. When the identity was made anew since, the template says that it cannot be used.',
      ],
      'identity.userAssignedIdentities.*.clientId': ['Shown once the template is provisioned.'],
      properties: [
        'All else.',
        'URLs in `scriptUri`, `sourceUri` and `uri` are shown as they were given to who may write the template, to others without signature, password and token: who may only read is not to write with them. They are encrypted in the database.',
      ],
      id: IGNORED,
      name: IGNORED,
      type: IGNORED,
      apiVersion: ['Taken and dropped: it is that of the request.'],
      dependsOn: ['Taken and dropped, so that a resource of an ARM template can be built as it is.'],
      comments: ['Taken and dropped, as above.'],
      systemData: [
        'Taken and dropped.',
        'Not shown: Kiln keeps the last caller of each operation, not of each resource.',
      ],
    },
  },
  sourceSection,
  customizeSection,
  validateSection,
  ...distributeSections,
  buildSection,
];

/** Words of Azure’s that Kiln does not know at all, with the reason. For the end of the document. */
export const LEFT_OUT: readonly string[] = [
  'The api-versions 2018-02-01-preview and 2019-02-01-preview: their templates have other words (`script`, `sharedImage`), and no client of today sends them.',
  'The source `ISO` of 2019-05-01-preview: Azure took it away in 2020-02-14, and its images of Red Hat are not there any more.',
  '`identity` is an object with its map only; the other members that Resource Manager gives identities (`SystemAssigned`, `tenantId`) Image Builder never had.',
];
