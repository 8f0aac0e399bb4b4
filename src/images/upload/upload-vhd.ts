/**
 * A VHD becomes a page blob: an empty one of its size, then only the pages that have data, several requests at once, and at the very end the footer, without
 * which nobody takes the blob for a disk. The blob says of which file it is: an upload that was interrupted goes on with what is there, whoever begins it again.
 */
import { open, stat } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import { extentsOfFile } from '../../disks/holes.ts';
import type { Progress } from '../source.ts';
import { chunksOf, dataSpans, joined, lacking, lengthOf, PAGE, type Span, withoutZeros } from './page-plan.ts';
import type { RemoteBlob } from './remote-blob.ts';

export interface VhdFile {
  /** A fixed VHD that never changes. */
  readonly path: string;
  /** Digest of the file. */
  readonly fsverity: string;
}

export interface UploadOptions {
  /** What is written on the blob besides the checksum: names are identifiers, values printable ASCII. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /** Plain sentences for the build log. */
  readonly report?: (line: string) => void;
}

export interface Uploaded {
  /** Bytes that were sent by this call. */
  readonly sent: number;
  /** Bytes of the blob that are no hole. */
  readonly data: number;
  /** Nothing was sent but the footer: the rest is the very file. */
  readonly linked: boolean;
}

/** The name under which the blob says whose bytes it has. */
export const CHECKSUM_METADATA = 'kiln_fsverity';
/** Requests at once; each holds 4 MiB. */
const PARALLEL = 8;

/** Errors: UploadFailed; those of the file system; the signal's reason. What was uploaded until then stays, for the next one to go on with. */
export async function uploadVhd(file: VhdFile, blob: RemoteBlob, options: UploadOptions): Promise<Uploaded> {
  const { size } = await stat(file.path);
  const metadata = { ...options.metadata, [CHECKSUM_METADATA]: file.fsverity };
  const spans = dataSpans(await extentsOfFile(file.path, size, options.signal), size);
  await using handle = await open(file.path, 'r');
  const read = async ({ start, end }: Span): Promise<Buffer> => {
    const bytes = Buffer.allocUnsafe(end - start);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
    if (bytesRead < bytes.length) throw new Error(`${file.path} became shorter while it was read`);
    return bytes;
  };
  const footer: Span = { start: size - PAGE, end: size };
  /** Where the file has data, and maybe some zeros: nothing of the blob is anywhere else. */
  const within = [...chunksOf(spans), footer];
  const there = await standing();
  let sent = 0;
  const put = async (span: Span, bytes: Buffer) => {
    const etag = await blob.put(span.start, bytes);
    sent += bytes.length;
    return etag;
  };

  if (!there && blob.own) {
    await blob.create(size, metadata);
    // Whoever may write this page may write them all; the door has looked.
    const etag = await put(footer, await read(footer));
    if (spans.length > 0) await blob.link(file.path, spans, etag);
    await verify([...spans, footer]);
    return { sent, data: lengthOf(spans) + PAGE, linked: true };
  }
  if (there) await blob.describe(metadata);
  else await blob.create(size, metadata);
  const written = await sendChunks(there ?? []);
  if (lacking([footer], there ?? []).length > 0) await put(footer, await read(footer));
  await verify([...written, footer]);
  return { sent, data: lengthOf(written) + PAGE, linked: false };

  /** What of this very file is there already; undefined: nothing that it could go on with. */
  async function standing(): Promise<readonly Span[] | undefined> {
    const facts = await blob.facts();
    if (facts === undefined || facts === 'hidden') return undefined;
    const same =
      facts.type === 'PageBlob' && facts.size === size && facts.metadata[CHECKSUM_METADATA] === file.fsverity;
    if (!same) {
      options.report?.(`${blob.name} is there with other content, and is replaced.`);
      return undefined;
    }
    const ranges = joined(await blob.ranges());
    // Somebody else wrote to it; or it is to be linked, which is done at once or not at all.
    if (lacking(ranges, within).length > 0) return undefined;
    if (blob.own && lacking([...spans, footer], ranges).length > 0) return undefined;
    options.report?.(`${blob.name}: the upload goes on after ${lengthOf(ranges)} bytes that are there.`);
    return ranges;
  }

  /** @returns what has data, of this file's chunks */
  async function sendChunks(ranges: readonly Span[]): Promise<Span[]> {
    const chunks = chunksOf(spans);
    const total = lengthOf(chunks);
    const written: Span[] = [];
    let done = 0;
    const failed = new AbortController();
    const waiting = chunks.values();
    const work = async () => {
      for (const chunk of waiting) {
        options.signal.throwIfAborted();
        if (failed.signal.aborted) return;
        const bytes = await read(chunk);
        const span = withoutZeros(chunk, bytes);
        if (span) {
          if (lacking([span], ranges).length > 0)
            await put(span, bytes.subarray(span.start - chunk.start, span.end - chunk.start));
          written.push(span);
        }
        done += chunk.end - chunk.start;
        options.onProgress?.({ label: 'uploading', done, total, unit: 'bytes' });
      }
    };
    const workers = Array.from({ length: PARALLEL }, () =>
      work().catch(error => {
        failed.abort();
        throw error;
      }),
    );
    // None of them reads the file any more when this ends.
    await Promise.allSettled(workers);
    await Promise.all(workers);
    return written;
  }

  /** Every request was checked by the service; this is about the whole: nothing is missing, nothing else is there, and it is a disk. */
  async function verify(written: readonly Span[]): Promise<void> {
    const facts = await blob.facts();
    if (facts === 'hidden') {
      options.report?.(`${blob.name}: the signature lets nobody read, so the blob as a whole is not verified.`);
      return;
    }
    const wrong = async (): Promise<string | undefined> => {
      if (facts?.type !== 'PageBlob' || facts.size !== size)
        return `it is ${facts === undefined ? 'gone' : `a ${facts.type} of ${facts.size} bytes`}, not a PageBlob of ${size} bytes`;
      if (facts.metadata[CHECKSUM_METADATA] !== file.fsverity) return 'another upload has taken its place';
      const ranges = await blob.ranges();
      const missing = lacking(written, ranges);
      if (missing.length > 0) return `${lengthOf(missing)} bytes are missing, from ${missing[0]!.start} on`;
      const foreign = lacking(ranges, within);
      if (foreign.length > 0) return `somebody else wrote ${lengthOf(foreign)} bytes, from ${foreign[0]!.start} on`;
      if (!(await blob.read(footer)).equals(await read(footer))) return 'its footer is another one';
      return undefined;
    };
    const found = await wrong();
    if (found === undefined) return;
    throw new KilnError('UploadFailed', `${blob.name} is not what was uploaded: ${found}.`, {
      target: blob.name,
      hint: 'Is it written to by two runs, or by somebody else?',
    });
  }
}
