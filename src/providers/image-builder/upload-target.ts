/** A VHD that goes to the `uri` of its distributor: a page blob in any account that speaks Azure's blob protocol. */
import type { Artifact } from '../../builds/artifacts.ts';
import type { UploadTarget } from '../../builds/distributors/distribute.ts';
import { publicUrl } from '../../images/catalogue/download.ts';
import { blobMetadata } from '../../images/upload/blob-metadata.ts';
import { openRemoteBlob } from '../../images/upload/remote-blob.ts';
import { uploadVhd } from '../../images/upload/upload-vhd.ts';
import type { VhdDistributor } from './distributors.ts';
import { type Origin, type OutputPlace, tagsOf } from './targets.ts';

/** Before the build nobody waits long for an endpoint that is away. */
const PROBES = 3;

/** @param record writes the run output */
export function uploadTarget(
  distributor: VhdDistributor,
  uri: string,
  origin: Origin,
  record: (origin: Origin, distributor: VhdDistributor, artifact: Artifact, place: OutputPlace) => Promise<boolean>,
): UploadTarget {
  const shown = publicUrl(uri);
  return {
    type: 'VHD',
    runOutputName: distributor.runOutputName,
    label: `VHD "${distributor.runOutputName}" → ${shown}`,
    lane: `blob ${shown}`,
    async check(signal = AbortSignal.timeout(300_000)) {
      await using blob = openRemoteBlob(uri, { ...(await origin.outward()), signal, attempts: PROBES });
      await blob.probe();
    },
    async upload(artifact, { log, signal, progress }) {
      const { metadata, left } = blobMetadata(tagsOf(distributor, origin));
      if (left.length > 0)
        log.say(`${shown}: a blob's metadata cannot hold these artifactTags, which are left out: ${left.join(', ')}.`);
      await using blob = openRemoteBlob(uri, { ...(await origin.outward()), signal });
      const report = (line: string) => log.say(line);
      const begun = performance.now();
      const { sent, data, linked } = await uploadVhd(artifact, blob, {
        metadata,
        signal,
        onProgress: progress,
        report,
      });
      const seconds = (performance.now() - begun) / 1000;
      log.say(
        linked
          ? `${shown}: linked, ${mebibytes(data)} MiB of data.`
          : `${shown}: sent ${mebibytes(sent)} of ${mebibytes(data)} MiB of data in ${seconds.toFixed(1)} s (${(sent / 1024 ** 2 / seconds).toFixed(1)} MiB/s).`,
      );
      const { location } = origin.template;
      await record(origin, distributor, artifact, { artifact_id: null, artifact_uri: shown, location, path: null });
      return { uri: shown, bytes: sent };
    },
  };
}

const mebibytes = (bytes: number): string => (bytes / 1024 ** 2).toFixed(1);
