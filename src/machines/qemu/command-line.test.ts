import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandLine, type Invocation, machineType } from './command-line.ts';

const plain: Invocation = {
  name: 'kiln-run-build',
  accelerator: 'tcg',
  cpu: 'qemu64',
  machine: 'q35',
  processors: 2,
  memoryMiB: 2048,
  disk: {
    chain: [
      { fd: 4, format: 'qcow2' },
      { fd: 5, format: 'qcow2' },
      { fd: 6, format: 'raw' },
    ],
  },
  seedFd: 7,
  qmpFd: 3,
  sshForward: { address: '198.18.0.2', port: 2222 },
  console: 'output',
};

const values = (args: readonly string[], option: string): string[] =>
  args.flatMap((arg, index) => (arg === option ? [args[index + 1]!] : []));

test('QEMU is confined and starts from nothing', () => {
  const args = commandLine(plain);
  assert.deepEqual(values(args, '-sandbox'), [
    'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
  ]);
  for (const option of ['-nodefaults', '-no-user-config']) assert.ok(args.includes(option));
});

test('the disk is a chain of descriptors of which only the first is written', () => {
  const args = commandLine(plain);
  const [disk, seed] = values(args, '-blockdev').map(text => JSON.parse(text));
  assert.equal(disk['node-name'], 'disk');
  assert.deepEqual([disk.file.filename, disk['read-only'], disk.cache['no-flush']], ['/dev/fdset/4', false, true]);
  assert.deepEqual([disk.backing.file.filename, disk.backing['read-only']], ['/dev/fdset/5', true]);
  assert.deepEqual([disk.backing.backing.driver, disk.backing.backing.file['read-only']], ['raw', true]);
  assert.equal('backing' in disk.backing.backing, false);
  assert.equal(seed['read-only'], true);
  assert.deepEqual(values(args, '-add-fd'), ['fd=4,set=4', 'fd=5,set=5', 'fd=6,set=6', 'fd=7,set=7']);
});

test('a disk without a backing file says so, instead of following what its header names', () => {
  const [disk] = values(commandLine({ ...plain, disk: { chain: [{ fd: 4, format: 'qcow2' }] } }), '-blockdev');
  assert.equal(JSON.parse(disk!).backing, null);
});

test('a disk that keeps what is read has a filter in its place', () => {
  const [disk] = values(commandLine({ ...plain, copyOnRead: true }), '-blockdev').map(text => JSON.parse(text));
  const [alone] = values(commandLine(plain), '-blockdev').map(text => JSON.parse(text));
  const { file, ...filter } = disk;
  assert.deepEqual(filter, { 'node-name': 'disk', driver: 'copy-on-read', discard: 'unmap' });
  assert.deepEqual(file, { ...alone, 'node-name': 'disk-written' });
});

test('what a machine writes behind a checkpoint is known from the start, for writing and for reading', () => {
  const chain = [{ fd: 5, readFd: 6, format: 'qcow2' as const }];
  const args = commandLine({ ...plain, disk: { chain, overlays: [{ fd: 8, readFd: 9 }] } });
  assert.deepEqual(values(args, '-add-fd'), [
    ...['fd=5,set=5,opaque=writable', 'fd=6,set=5', 'fd=8,set=8,opaque=writable', 'fd=9,set=8', 'fd=7,set=7'],
  ]);
  assert.ok(!values(args, '-blockdev').some(node => node.includes('/dev/fdset/8')), 'nothing opens it yet');
});

test('data disks are units of one controller, behind the devices that every machine has', () => {
  const dataDisks = [0, 7].map(lun => ({
    lun,
    chain: [{ fd: 20 + lun, readFd: 40 + lun, format: 'qcow2' as const }],
    overlays: [{ fd: 60 + lun, readFd: 80 + lun }],
  }));
  const args = commandLine({ ...plain, dataDisks });
  const devices = values(args, '-device');
  assert.deepEqual(devices.slice(0, -3), values(commandLine(plain), '-device'));
  assert.deepEqual(devices.slice(-3), [
    'virtio-scsi-pci,id=data',
    'scsi-hd,bus=data.0,channel=0,scsi-id=0,lun=0,drive=lun0',
    'scsi-hd,bus=data.0,channel=0,scsi-id=0,lun=7,drive=lun7',
  ]);
  const nodes = values(args, '-blockdev').map(text => JSON.parse(text));
  assert.deepEqual(
    nodes.filter(node => /^lun/.test(node['node-name'])).map(node => [node['node-name'], node.file.filename]),
    [
      ['lun0', '/dev/fdset/20'],
      ['lun7', '/dev/fdset/27'],
    ],
  );
  assert.ok(values(args, '-add-fd').includes('fd=67,set=67,opaque=writable'), 'what comes on top is known');
});

test('the ports come behind all other devices; memory is in its descriptor’s file', () => {
  const args = commandLine({ ...plain, renewalFd: 4, commandsFd: 5, memoryFd: 9, incoming: true });
  assert.deepEqual(values(args, '-device').slice(-3), [
    'virtio-serial-pci',
    'virtserialport,chardev=renewal,id=kiln.renewal,name=kiln.renewal',
    'virtserialport,chardev=commands,id=kiln.commands,name=kiln.commands',
  ]);
  assert.deepEqual(values(args, '-device').slice(0, -3), values(commandLine(plain), '-device'));
  for (const port of ['socket,id=renewal,fd=4,server=off', 'socket,id=commands,fd=5,server=off'])
    assert.ok(values(args, '-chardev').includes(port));
  assert.deepEqual(values(args, '-machine'), ['q35,memory-backend=ram']);
  assert.match(values(args, '-object')[0]!, /id=ram,size=2048M,mem-path=\/dev\/fd\/9,share=on/);
  assert.deepEqual(values(args, '-incoming'), ['defer']);
  assert.ok(!commandLine(plain).includes('-incoming'));
});

test('no path of the host is on the command line of a BIOS machine', () => {
  for (const arg of commandLine(plain)) assert.ok(!arg.includes('/') || arg.includes('/dev/fdset/'), arg);
});

test('the guest is reached through one forwarded port, by IPv4 only', () => {
  const [net] = values(commandLine(plain), '-netdev');
  assert.equal(net, 'user,id=net,ipv6=off,hostfwd=tcp:198.18.0.2:2222-:22');
});

test('emulation runs a thread for each processor; hardware takes no such words', () => {
  assert.match(values(commandLine(plain), '-accel')[0]!, /^tcg,thread=multi,tb-size=\d+$/);
  assert.deepEqual(values(commandLine({ ...plain, accelerator: 'kvm' }), '-accel'), ['kvm']);
});

test('UEFI firmware is flash: code shared, variables its own', () => {
  const uefi = { codePath: '/usr/share/OVMF/OVMF_CODE.fd', variablesFd: 8 };
  const args = commandLine({ ...plain, machine: machineType('q35', true), uefi });
  const nodes = values(args, '-blockdev').map(text => JSON.parse(text));
  assert.equal(nodes.find(node => node['node-name'] === 'firmware')['read-only'], true);
  assert.equal(nodes.find(node => node['node-name'] === 'variables').filename, '/dev/fdset/8');
  assert.deepEqual(values(args, '-machine'), ['q35,pflash0=firmware,pflash1=variables']);
});

test('Trusted Launch: only the firmware writes its variables, and there is a TPM behind all else', () => {
  const uefi = { codePath: '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd', variablesFd: 8 };
  const machine = machineType('q35', true, true);
  const args = commandLine({ ...plain, machine, uefi, trusted: { tpmSocketPath: '/run/kiln/kiln-0.tpm/a,b' } });
  assert.deepEqual(values(args, '-machine'), ['q35,smm=on,pflash0=firmware,pflash1=variables']);
  assert.ok(values(args, '-global').includes('driver=cfi.pflash01,property=secure,value=on'));
  assert.ok(values(args, '-chardev').includes('socket,id=tpm,path=/run/kiln/kiln-0.tpm/a,,b'));
  assert.equal(values(args, '-device').at(-1), 'tpm-tis,tpmdev=tpm');
  assert.deepEqual(values(args, '-device').slice(0, -1), values(commandLine(plain), '-device'));
  assert.ok(!commandLine(plain).some(arg => /tpm|smm/.test(arg)));
});
