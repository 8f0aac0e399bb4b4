/** What tokens are for. A token for one thing is not accepted by another, as in Azure: one that leaks to a storage client opens no resource. */

/** Resource Manager; the few Microsoft Graph calls; blobs. */
export type Audience = 'management' | 'graph' | 'storage';

/** What `az` and the SDKs ask for when Kiln's own metadata is what they read (az-wire 1.3). */
export const MANAGEMENT_RESOURCE = 'https://management.local/';

const MANAGEMENT = [MANAGEMENT_RESOURCE, 'https://management.azure.com', 'https://management.core.windows.net'];
const GRAPH = ['https://graph.microsoft.com', 'https://graph.windows.net'];
/** Clients have this one built in, whatever the cloud; some ask for the account itself. */
export const STORAGE_RESOURCE = 'https://storage.azure.com';
const STORAGE = [STORAGE_RESOURCE];
const ACCOUNT = /^https:\/\/[a-z0-9]{3,24}\.blob\.[a-z0-9.-]+(:\d+)?$/;

/** The audiences that a resource (App ID URI, untrusted) stands for; none for one that is not known here. */
export function audiencesOf(resource: string, origin: string): readonly Audience[] {
  const name = normalised(resource);
  // The metadata names the server itself for both.
  if (name === normalised(origin)) return ['management', 'graph'];
  if (MANAGEMENT.some(one => normalised(one) === name)) return ['management'];
  if (GRAPH.some(one => normalised(one) === name)) return ['graph'];
  if (STORAGE.includes(name) || ACCOUNT.test(name)) return ['storage'];
  return [];
}

/** For the message to somebody whose token is for something else. */
export function acceptedBy(audience: Audience, origin: string): string[] {
  if (audience === 'storage') return STORAGE;
  return [...(audience === 'graph' ? GRAPH : MANAGEMENT), origin];
}

const normalised = (text: string): string => text.toLowerCase().replace(/\/+$/, '');
