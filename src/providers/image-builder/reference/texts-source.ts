/** The reference of `properties.source`. */
import type { Section } from './section.ts';

const PLAN: readonly [string, string] = [
  'Compared with the plan of the image, without regard to case.',
  'Only where an entry of the catalogue says that there is a plan (`"plan"` in catalogue.json); none of the built-in ones has one, and nothing is bought.',
];

export const sourceSection: Section = {
  title: 'source',
  intro:
    'What a build starts from. It is looked at when the template is made, and again at each run. Only Linux, x64 and generalized images are built.',
  rows: {
    'properties.source': ['What the build starts from; cannot be changed later.'],
    'properties.source(PlatformImage).type': ['An image of the marketplace, by its four names.'],
    'properties.source(PlatformImage).publisher': [
      'With offer and SKU the name of an entry of the catalogue (`kiln catalogue list`, `az vm image list`), in any casing.',
      'Behind the name stands the public cloud image of the distribution, or, for Debian 12 and 13, one made here from packages: the disks of Azure’s marketplace are not to be had. Images that are retired there lead to the next newer one, which the log says.',
    ],
    'properties.source(PlatformImage).offer': ['See `publisher`.'],
    'properties.source(PlatformImage).sku': [
      'See `publisher`. It decides the generation: `12` is V1, `12-gen2` is V2.',
    ],
    'properties.source(PlatformImage).version': [
      'A version, or `latest`, which is asked for at each run: the publisher’s list of checksums, or the newest one on this host where he cannot be asked.',
      'Versions are those of the catalogue, not of the marketplace. One that is bootstrapped gets a new version when somebody asks for it (`kiln catalogue refresh`).',
    ],
    'properties.source(PlatformImage).exactVersion': [
      'The version that `latest` stands for: when the template was made as far as it is known then, and since the last run the one that was built on.',
    ],
    'properties.source(PlatformImage).planInfo': [
      'Required, and equal in all three fields, where the image has a purchase plan.',
      'Where the catalogue knows of no plan it is taken as it is and has no effect, so that templates for images with a plan can be built on a disk of one’s own.',
    ],
    'properties.source(PlatformImage).planInfo.planName': PLAN,
    'properties.source(PlatformImage).planInfo.planProduct': PLAN,
    'properties.source(PlatformImage).planInfo.planPublisher': PLAN,
    'properties.source(ManagedImage).type': ['A managed image that was built here or made from a VHD.'],
    'properties.source(ManagedImage).imageId': [
      'In the subscription and the region of the template, else the template is refused; generalized. It comes with its data disks.',
    ],
    'properties.source(SharedImageVersion).type': [
      'A version in a gallery of one’s own, or in one that is shared directly with the template’s subscription or tenant.',
    ],
    'properties.source(SharedImageVersion).imageVersionId': [
      'A version with a replica in the template’s region, or `…/versions/latest` (from 2022-07-01): the highest one that is there and not excluded from latest, found at each run. Specialized definitions are refused. Own galleries may be in any subscription that the identity may read.',
      'Galleries of the community are no sources, as in Azure.',
    ],
    'properties.source(SharedImageVersion).exactVersion': [
      'The id of the version that `latest` stands for, as of a platform image; of a shared gallery the version behind it.',
    ],
  },
};
