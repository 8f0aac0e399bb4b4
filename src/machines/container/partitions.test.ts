import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Partition, rootOf } from './partitions.ts';

const LINUX = '0FC63DAF-8483-4772-8E79-3D69D8477DE4';
const ROOT = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709';

const partition = (number: number, type: string, fileSystem: string | undefined, size = 1): Partition => ({
  number,
  offset: number * 1024 ** 3,
  size: size * 1024 ** 3,
  type,
  fileSystem,
  names: [],
});

test('the partition that says it is the root wins over a larger one', () => {
  const root = rootOf([partition(1, LINUX, 'ext4', 9), partition(2, ROOT, 'xfs'), partition(15, 'EFI', 'vfat')]);
  assert.equal(root.number, 2);
});

test('else the largest Linux partition; of MBR too; else the whole disk', () => {
  assert.equal(rootOf([partition(1, LINUX, 'ext4', 1), partition(2, LINUX, 'ext4', 3)]).number, 2);
  assert.equal(rootOf([partition(1, '83', 'ext4')]).number, 1);
  assert.equal(rootOf([partition(0, '', 'btrfs')]).number, 0);
});

test('LVM, encryption and an empty disk are refused, with what was seen', () => {
  assert.throws(() => rootOf([partition(1, LINUX, 'LVM2_member'), partition(2, LINUX, undefined)]), {
    code: 'SourceUnusable',
    message: /1: LVM2_member, 2: unknown/,
  });
  assert.throws(() => rootOf([]), { code: 'SourceUnusable' });
});
