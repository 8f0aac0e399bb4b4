/** What proves that somebody may write to a URL: its signature, or, in accounts of this server alone, an identity. */
import { KilnError } from '../../arm/errors.ts';

export const isSigned = (url: URL): boolean => url.searchParams.has('sig');

/**
 * Before anything is sent. A token of this server's is for this server alone; for all others a signature speaks.
 * @param name the URL for people @param identified whether an identity of this server may speak for it
 * Errors: UploadFailed.
 */
export function requireProof(url: URL, name: string, identified: boolean): void {
  if (isSigned(url)) {
    const ends = new Date(url.searchParams.get('se') ?? Number.NaN);
    if (ends < new Date())
      throw new KilnError(
        'UploadFailed',
        `${name} cannot be written to: its signature expired at ${ends.toISOString()}.`,
        { target: name, hint: 'Put a signature into the uri that lasts longer than the build (se).' },
      );
    return;
  }
  if (identified) return;
  throw new KilnError('UploadFailed', `${name} cannot be written to: its uri has no signature.`, {
    target: name,
    hint: 'Add a shared access signature that may create and write (sp=cw, better rcw). Without one, only accounts of the server that runs the build can be written to, in the name of the template’s identity.',
  });
}
