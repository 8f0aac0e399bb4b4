/** Small templates for builds that will come to harm. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { QUICK_SOURCE } from './quick-guest.ts';

const GROUP = '/subscriptions/00000000-0000-4000-8000-00006b696c6e/resourceGroups/chaos';

export interface TemplateOptions {
  /** Lines of Shell steps, one array a step. */
  readonly steps?: readonly (readonly string[])[];
  /** Instead of steps. */
  readonly customize?: readonly object[];
  readonly source?: object;
  /** Default: off, since most tests are about something else. */
  readonly bootProof?: 'on' | 'off';
  readonly validate?: object;
  readonly optimize?: object;
  /** How many of VHD, ManagedImage, SharedImage. Default: 1. */
  readonly outputs?: 1 | 2 | 3;
}

/** Writes NAME.json. Outputs are called NAME-vhd, NAME-image and NAME-version. @returns its path */
export async function writeTemplate(directory: string, name: string, options: TemplateOptions = {}): Promise<string> {
  const { steps = [['echo hello']], bootProof = 'off', outputs = 1, source = QUICK_SOURCE } = options;
  const customize =
    options.customize ?? steps.map((inline, index) => ({ type: 'Shell', name: `step ${index + 1}`, inline }));
  const compute = `${GROUP}/providers/Microsoft.Compute`;
  const distribute = [
    { type: 'VHD', runOutputName: `${name}-vhd` },
    {
      type: 'ManagedImage',
      runOutputName: `${name}-image`,
      imageId: `${compute}/images/${name}`,
      location: 'westeurope',
    },
    {
      type: 'SharedImage',
      runOutputName: `${name}-version`,
      galleryImageId: `${compute}/galleries/chaos/images/${name}`,
      targetRegions: [{ name: 'westeurope' }, { name: 'northeurope' }],
    },
  ];
  const template = {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    apiVersion: '2025-10-01',
    name,
    location: 'westeurope',
    tags: { 'kiln.bootProof': bootProof },
    // Small: two such machines share a host of two processors.
    properties: {
      vmProfile: { vmSize: 'Standard_B1ms' },
      source,
      customize,
      ...(options.optimize && { optimize: options.optimize }),
      ...(options.validate && { validate: options.validate }),
      distribute: distribute.slice(0, outputs),
    },
  };
  const path = join(directory, `${name}.json`);
  await writeFile(path, JSON.stringify(template, null, 2));
  return path;
}
