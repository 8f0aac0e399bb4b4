/** Takes the lines before a certain one out of a stream. The guest's: untrusted, and no more of them than fits into this many bytes. */
export function linesBefore(mark: string, most = 64 * 1024) {
  let head = Buffer.alloc(0);
  let ended = false;
  return {
    /** @returns what is not part of them */
    take(chunk: Buffer): Buffer {
      if (ended) return chunk;
      head = Buffer.concat([head, chunk]);
      const at = `\n${head.toString('latin1')}`.indexOf(`\n${mark}\n`);
      ended = at >= 0 || head.length > most;
      if (!ended) return Buffer.alloc(0);
      const rest = at < 0 ? head : head.subarray(at + mark.length + 1);
      head = head.subarray(0, Math.max(0, at));
      return rest;
    },
    lines: () => (ended ? head.toString('utf8').trim().split('\n') : []),
  };
}
