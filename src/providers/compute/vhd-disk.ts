/** A VHD in a blob: where its bytes lie, and in the words of Compute why it cannot be taken. Untrusted bytes. */
import { KilnError } from '../../arm/errors.ts';
import { type FilePart, sizeOf } from '../../disks/file-parts.ts';
import { readForeignVhd } from '../../disks/foreign-vhd.ts';
import { MIB } from '../../disks/qemu-img.ts';
import type { DiskLimits } from '../../disks/untrusted.ts';
import type { ProviderEnvironment } from '../provider.ts';
import { locateBlob } from '../storage/locate-blob.ts';
import type { BlobAddress } from './blob-address.ts';

export interface VhdDisk {
  /** Bytes that a guest sees. */
  readonly virtualSize: number;
  readonly vhd: readonly FilePart[];
  /** Whether the blob is another one by now. */
  readonly changed: () => Promise<boolean>;
}

export const noSuchBlob = ({ uri }: BlobAddress, path: string): KilnError =>
  new KilnError('ImageBlobNotFound', `Unable to find VHD blob with URI ${uri}.`, { target: path });

/** `path`: where a body names it. Errors: ImageBlobNotFound, InvalidVhd, VHDSizeInvalid. */
export async function openVhd(
  environment: Pick<ProviderEnvironment, 'database' | 'home'>,
  { address, path }: { readonly address: BlobAddress; readonly path: string },
  limits: DiskLimits,
): Promise<VhdDisk> {
  const { account, container, blob, uri } = address;
  const locate = () => locateBlob(environment, account, container, blob);
  const located = await locate();
  if (!located) throw noSuchBlob(address, path);
  const parts: FilePart[] =
    'chunks' in located
      ? located.chunks.map(chunk => ({ ...chunk }))
      : [{ path: located.path, offset: located.offset ?? 0, size: located.size }];
  if (sizeOf(parts) !== located.size) throw new Error(`${uri} has ${sizeOf(parts)} bytes of ${located.size}`);
  const found = await readForeignVhd(parts, limits);
  if ('wrong' in found) throw invalidVhd(found, address, limits, path);
  const changed = async () => (await locate())?.etag !== located.etag;
  return { virtualSize: found.virtualSize, vhd: parts, changed };
}

function invalidVhd(
  { wrong, because, virtualSize }: Extract<Awaited<ReturnType<typeof readForeignVhd>>, { wrong: string }>,
  { uri, blob }: BlobAddress,
  { maxVirtualSize }: DiskLimits,
  path: string,
): KilnError {
  const name = blob.split('/').at(-1)!;
  switch (wrong) {
    case 'cookie':
      return new KilnError(
        'InvalidVhd',
        `The specified cookie value in VHD footer indicates that disk '${name}' with blob ${uri} is not a supported VHD. Disk is expected to have cookie value 'conectix'.`,
        { target: path },
      );
    case 'size':
      return new KilnError(
        'InvalidVhd',
        `The VHD ${uri} has an unsupported virtual size of ${virtualSize} bytes. The size must be a whole number (in MBs).`,
        { target: path },
      );
    case 'limit':
      return new KilnError(
        'VHDSizeInvalid',
        `The specified disk size value of ${virtualSize} for disk '${name}' with blob ${uri} is invalid. Disk size must be between ${MIB} and ${maxVirtualSize}.`,
        { target: path },
      );
    case 'damaged':
      return new KilnError('InvalidVhd', `Only blobs formatted as VHDs can be imported. The blob ${uri} ${because}.`, {
        target: path,
      });
  }
}
