/**
 * CRC-64/NVME, the checksum of the header x-ms-content-crc64: polynomial 0xAD93D23594C93659, reflected, begun with and inverted by ones; sent as eight bytes, the
 * lowest first, in Base64. Two halves of 32 bits, since numbers hold 53.
 */

const HIGH = 0x9a6c9329;
const LOW = 0xac4bc9b5;

const TABLE_HIGH = new Uint32Array(256);
const TABLE_LOW = new Uint32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let high = 0;
  let low = byte;
  for (let bit = 0; bit < 8; bit++) {
    const odd = low & 1;
    low = ((low >>> 1) | (high << 31)) >>> 0;
    high >>>= 1;
    if (odd) {
      low = (low ^ LOW) >>> 0;
      high = (high ^ HIGH) >>> 0;
    }
  }
  TABLE_HIGH[byte] = high;
  TABLE_LOW[byte] = low;
}

export class Crc64 {
  #high = 0xffffffff;
  #low = 0xffffffff;

  update(bytes: Uint8Array): this {
    let high = this.#high;
    let low = this.#low;
    for (let index = 0; index < bytes.length; index++) {
      const entry = (low ^ bytes[index]!) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ TABLE_LOW[entry]!;
      high = (high >>> 8) ^ TABLE_HIGH[entry]!;
    }
    this.#high = high >>> 0;
    this.#low = low >>> 0;
    return this;
  }

  digest(): Buffer {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(~this.#low >>> 0, 0);
    bytes.writeUInt32LE(~this.#high >>> 0, 4);
    return bytes;
  }
}
