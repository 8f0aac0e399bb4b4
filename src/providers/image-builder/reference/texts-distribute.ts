/** The reference of `properties.distribute`. */
import { ofKinds, type Section, type Text } from './section.ts';

const place = 'properties.distribute[]';
const shared = `${place}(SharedImage)`;

const STORAGE: Text = [
  '`Standard_LRS` (the default), `Standard_ZRS` where the region has zones, `Premium_LRS` from 2022-07-01. Written into the version.',
  'All replicas lie on the host’s own disks; the word changes nothing there.',
];

export const distributeSections: readonly Section[] = [
  {
    title: 'distribute',
    intro:
      'Where the finished image goes. All targets begin at once (those of one image definition go one after the other), each with a state of its own; when some fail, the run is `PartiallySucceeded`, when all do, `Failed`. `kiln runs retry` brings the image to those that failed, as long as the layer cache has it: not where a tag `kiln.cache` said `never` (it then keeps nothing behind that step), where the build had no cache (`--no-cache`, a directory that cannot be written), or where it was pruned since; then the template has to be run again. A PATCH may add and change targets from 2023-07-01 on, never remove one.',
    rows: {
      'properties.distribute': ['At least one; no two to one image, one version that is named, or one blob.'],
      ...ofKinds(place, ['ManagedImage', 'SharedImage', 'VHD'], {
        runOutputName: ['Unique in the template; the name of the run output that the next successful run writes.'],
        artifactTags: ['Tags of what is published, beside `correlationId`, which is the run’s id.'],
      }),
      [`${place}(ManagedImage).type`]: ['A managed image: `Microsoft.Compute/images`, with its disk as qcow2.'],
      [`${place}(ManagedImage).imageId`]: [
        'Its group has to be there. A run puts the new image in the place of the one before it, when it is whole. What Compute would refuse of the image (its name, too many tags) is refused when the template is made or changed.',
      ],
      [`${place}(ManagedImage).location`]: ['Any region; of an image that is there already, its own.'],
      [`${place}(VHD).type`]: [
        'A fixed VHD, which `kiln images export` or the staging account’s container `vhds` gives. One disk, that of the system: data disks go into managed images and gallery versions, which the log says.',
        'With `kiln build` there is no staging account: the run output’s `artifactUri` is a file.',
      ],
      [`${place}(VHD).uri`]: [
        'The VHD goes there instead: a page blob of any service that speaks Azure’s protocol. A signature (SAS) in it says who may write; on the server’s own accounts the role of the template’s identity is enough. Asked before the build (where it refuses and is the only target, nothing is built; else only this target fails, and it is tried again when the image is there), sent without holes, resumed where it broke off, verified at the end. Logs and run outputs have it without its signature.',
        'Elsewhere Azure writes by the identity’s role: no other service takes the tokens of identities that live here.',
      ],
    },
  },
  {
    title: 'distribute: SharedImage',
    intro:
      'A new version in an image definition, which has to be there and fit: operating system, generation, architecture, security type, generalized. What the gallery would refuse of the version is refused when the template is made and again before a build begins, in the gallery’s own sentences.',
    rows: {
      [`${shared}.type`]: [
        'A version in a gallery: `Microsoft.Compute/galleries/images/versions`, made in the region of its definition.',
      ],
      [`${shared}.galleryImageId`]: [
        'The id of an image definition; or, with `/versions/1.2.3`, of one version. That one is used as it is: a second run fails with `Conflict`, before it builds anything where there is no other target that takes its image. Not together with `versioning`, nor in templates with triggers. Of a definition with the feature `SecurityType` Trusted Launch the machines of the build have Secure Boot and a TPM, where the source boots by UEFI and the host has swtpm and OVMF; the log says what is missing. A source that nobody signed does not boot there.',
      ],
      [`${shared}.replicationRegions`]: [
        'The region of the definition must be among them. Required before 2022-07-01; since then, without it and `targetRegions`, the version is in the region of the definition alone. Not together with `targetRegions`.',
      ],
      [`${shared}.targetRegions`]: ['As `replicationRegions`, with counts and storage of each.'],
      [`${shared}.targetRegions[].name`]: ['A region, in any spelling of Azure’s; each once.'],
      [`${shared}.targetRegions[].replicaCount`]: [
        '1 (the default) to 100; `regionalReplicaCount` of the version.',
        'One file a region, whatever the count: replicas are for many machines that start at once, and a host has one disk.',
      ],
      [`${shared}.targetRegions[].storageAccountType`]: STORAGE,
      [`${shared}.storageAccountType`]: [
        `Only with \`replicationRegions\`; of all of them. ${STORAGE[0]}`,
        STORAGE[1]!,
      ],
      [`${shared}.excludeFromLatest`]: ['`…/versions/latest` and triggers pass over the version.'],
      [`${shared}.replicationMode`]: [
        'Written into the version. Shallow: a replica is another name of the file that it is made from. Full: versions that callers make get a file of their own in each region.',
        'Replicas of a build are names of one file in both modes where the file system has hard links: the bytes are the same and never change.',
      ],
      [`${shared}.versioning`]: [
        'How the number of the version is found. Without it: `Latest` from 2022-07-01 on, before that 0.x.y from the clock, as Azure had it.',
      ],
      [`${shared}.versioning(Latest).scheme`]: [
        'The highest version, its patch plus one. A full patch (2147483647) is followed by the next minor, a full minor by the next major. The first version of all is 1.0.0.',
      ],
      [`${shared}.versioning(Latest).major`]: [
        'Only versions with this major count; -1 is the same as nothing. The first version of a major is `MAJOR.0.1`.',
        'Azure does not document the first version of a major.',
      ],
      [`${shared}.versioning(Source).scheme`]: [
        'The version of the source, so that images can be told by what they are made of. Missing parts are 0, of four the last is left out, a moment such as 202311130930 becomes two parts. When it is taken, or a newer one of the same major and minor is there, the next patch after those. A managed image has no version: refused.',
        'Azure documents neither the mapping nor what happens to a number that is taken.',
      ],
    },
  },
];
