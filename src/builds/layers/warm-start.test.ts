import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type WarmStart, whyCold } from './warm-start.ts';

const here: WarmStart = {
  source: { name: 'Debian:debian-12:12-gen2:0.1.0', sha256: 'a' },
  shape: {
    ...{ kind: 'qemu', processors: 2, memoryMiB: 2048, firmware: 'bios', accelerator: 'tcg' },
    model: '7.2.22/q35/qemu64',
  },
  osDiskSizeGB: 0,
};
const other = (shape: Partial<WarmStart['shape']>, more: Partial<WarmStart> = {}) => ({
  facts: { warmStart: { ...here, shape: { ...here.shape, ...shape }, ...more } },
});

test('each fact that differs is named, with what it was and what it is', () => {
  const said: readonly (readonly [Partial<WarmStart['shape']>, RegExp])[] = [
    [{ model: '7.2.21/q35/qemu64' }, /with QEMU 7\.2\.21, this build has QEMU 7\.2\.22; booting cold\.$/],
    [{ model: '7.2.22/pc/qemu64' }, /the machine type pc, .* the machine type q35;/],
    [{ model: '7.2.22/q35/max' }, /the processor max, .* the processor qemu64;/],
    [{ memoryMiB: 1024 }, /1024 MiB of memory, .* 2048 MiB of memory;/],
    [{ processors: 1 }, /1 processor, .* 2 processors;/],
    [{ firmware: 'uefi' }, /uefi firmware, .* bios firmware;/],
    [{ accelerator: 'kvm' }, /the accelerator kvm, .* the accelerator tcg;/],
  ];
  for (const [shape, pattern] of said) {
    const sentence = whyCold([other(shape)], here)!;
    assert.match(sentence, pattern);
    assert.match(sentence, /^The warm start of Debian:debian-12:12-gen2:0\.1\.0 was made with [^;]+;[^;]+$/);
  }
  assert.match(whyCold([other({}, { osDiskSizeGB: 30 })], here)!, /a disk of 30 GiB, .* the disk of its source;/);
  assert.match(
    whyCold([other({}, { dataDisks: [4, 8] })], here)!,
    /data disks of 4 and 8 GiB, .* no further data disk;/,
  );
});

test('of several, the one that comes nearest is spoken of', () => {
  const far = other({ model: '7.2.21/pc/max', memoryMiB: 1024 });
  const near = other({ memoryMiB: 4096, processors: 4 });
  const sentence = whyCold([far, near], here)!;
  assert.match(sentence, /with 4 processors and 4096 MiB of memory, this build has 2 processors and 2048 MiB/);
});

test('nothing is said of other sources, other kinds of machines, other layers, or one that fits', () => {
  const strangers = [
    other({ memoryMiB: 1024 }, { source: { ...here.source, sha256: 'b' } }),
    other({ memoryMiB: 1024 }, { source: { name: here.source.name, fsverity: 'a' } }),
    other({ kind: 'container', model: 'x' }),
    { facts: { machine: { qemu: '7.2.21' } } },
    { facts: { warmStart: 'of something' } },
    other({}),
  ];
  assert.equal(whyCold(strangers, here), undefined);
});
