/** Image templates as people write them in files, and the ids that they name. */
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';

export const GROUP = 'clients';
export const LOCATION = 'westus2';
export const IDENTITY = 'builder';
export const GROUP_ID = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/${GROUP}`;
export const IDENTITY_ID = `${GROUP_ID}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${IDENTITY}`;
export const SOURCE = {
  type: 'PlatformImage',
  publisher: 'Debian',
  offer: 'debian-12',
  sku: '12-gen2',
  version: 'latest',
} as const;

export const templateId = (name: string) =>
  `${GROUP_ID}/providers/Microsoft.VirtualMachineImages/imageTemplates/${name}`;
export const imageId = (name: string) => `${GROUP_ID}/providers/Microsoft.Compute/images/${name}`;
export const definitionId = (gallery: string, name: string) =>
  `${GROUP_ID}/providers/Microsoft.Compute/galleries/${gallery}/images/${name}`;

export interface TemplateFile {
  readonly inline?: readonly string[];
  readonly customize?: readonly object[];
  readonly distribute: readonly object[];
  readonly tags?: Readonly<Record<string, string>>;
  readonly vmProfile?: object;
}

/** With what an ARM template has besides (type, apiVersion), which az leaves out. */
export function templateFile({ inline = ['echo hello'], customize, distribute, tags = {}, vmProfile }: TemplateFile) {
  return {
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
    apiVersion: '2022-02-14',
    location: LOCATION,
    dependsOn: [],
    tags,
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY_ID]: {} } },
    properties: {
      buildTimeoutInMinutes: 60,
      ...(vmProfile && { vmProfile }),
      source: SOURCE,
      customize: customize ?? [{ type: 'Shell', name: 'step', inline }],
      distribute,
    },
  };
}

export const managedImage = (name: string) => ({
  type: 'ManagedImage',
  runOutputName: name,
  imageId: imageId(name),
  location: LOCATION,
  artifactTags: {},
});
