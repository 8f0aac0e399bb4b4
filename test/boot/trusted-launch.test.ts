/**
 * An image for a definition of Trusted Launch: built and proven in machines with Secure Boot and a TPM, which boot what Debian has signed and nothing else. The quick guest, with
 * Debian's shim and GRUB put before it.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { LOCAL_SUBSCRIPTION, resourceId } from '../../src/arm/ids.ts';
import { cloneOrCopy } from '../../src/disks/copy.ts';
import { LAYOUT } from '../../src/images/catalogue/debian/disk-layout.ts';
import { lacksTrustedLaunch } from '../../src/machines/qemu/trusted-launch.ts';
import { run } from '../../src/processes/process.ts';
import { ensureNeighbours } from '../../src/providers/ensure.ts';
import { putTemplate } from '../../src/providers/image-builder/create.ts';
import { imageTemplates } from '../../src/providers/image-builder/image-templates.ts';
import { normaliseTemplate } from '../../src/providers/image-builder/normalise.ts';
import { startRun } from '../../src/providers/image-builder/run.ts';
import { sourceOf } from '../../src/providers/image-builder/source-image.ts';
import { validateTemplate } from '../../src/providers/image-builder/validate.ts';
import { patchProperties } from '../../src/providers/store.ts';
import { openService, type Service } from '../../src/service.ts';
import { makeQuickGuest } from '../chaos/quick-guest.ts';
import { leftovers, temporaryHome } from '../kiln.ts';

const API = '2024-02-01';
const LOCATION = 'westeurope';
const GROUP = 'trusted';
const DEFINITION = resourceId(LOCAL_SUBSCRIPTION, GROUP, 'Microsoft.Compute/galleries/images', 'gallery', 'trusted');
const LOOK = [
  // The quick guest mounts nothing by itself.
  'sudo modprobe efivarfs 2>/dev/null || true',
  'mountpoint -q /sys/firmware/efi/efivars || sudo mount -t efivarfs efivarfs /sys/firmware/efi/efivars',
  'echo "fact secure-boot=$(od -An -t u1 -j 4 -N 1 /sys/firmware/efi/efivars/SecureBoot-* | tr -d " ")"',
  'echo "fact tpm=$(cat /sys/class/tpm/tpm0/tpm_version_major)"',
];

const lacking = await lacksTrustedLaunch();

describe('Trusted Launch', { skip: lacking, concurrency: 1 }, () => {
  let home: Awaited<ReturnType<typeof temporaryHome>>;
  let service: Service;

  before(async () => {
    home = await temporaryHome();
    const { disk, cache } = await makeQuickGuest(home.path);
    process.env.KILN_CACHE = cache;
    await mkdir(cache);
    const unsigned = join(home.path, 'unsigned.raw');
    await cloneOrCopy(disk, unsigned);
    await sign(disk);
    const entry = (file: string) => ({ file, hyperVGeneration: 'V2', firmware: 'uefi' });
    const catalogue = { 'Boot:signed:gen2': entry(disk), 'Boot:unsigned:gen2': entry(unsigned) };
    await writeFile(join(home.path, 'catalogue.json'), JSON.stringify(catalogue));
    service = await openService({ home: home.path, log: () => undefined });
  });
  after(async () => {
    await service?.close();
    // With its database: everything that the builds had is gone now.
    const left = home ? await leftovers(home.path) : [];
    await home?.remove();
    assert.deepEqual(left, []);
  });

  /** Puts Debian's signed shim and GRUB where the firmware looks, and tells that GRUB where the system is. */
  async function sign(disk: string): Promise<void> {
    const directory = join(home.path, 'signed');
    await mkdir(directory);
    await run('apt-get', ['-q', 'download', 'shim-signed', 'grub-efi-amd64-signed'], { cwd: directory });
    await run('sh', ['-c', 'for one in *.deb; do dpkg-deb -x "$one" .; done'], { cwd: directory });
    const grub = join(directory, 'grub.cfg');
    await writeFile(
      grub,
      'search --no-floppy --file --set=root /boot/grub/grub.cfg\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n',
    );
    const esp = ['-i', `${disk}@@${LAYOUT.esp.start}`];
    const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' };
    await run('mmd', [...esp, '::/EFI/debian'], { env });
    for (const [from, to] of [
      [join(directory, 'usr/lib/shim/shimx64.efi.signed'), 'BOOT/BOOTX64.EFI'],
      [join(directory, 'usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed'), 'BOOT/grubx64.efi'],
      [grub, 'debian/grub.cfg'],
    ] as const)
      await run('mcopy', ['-o', ...esp, from, `::/EFI/${to}`], { env });
  }

  async function build(name: string): Promise<{ state: string; message: string | null; log: string }> {
    const { engine, machines } = service;
    const database = service.database.kysely;
    const id = resourceId(LOCAL_SUBSCRIPTION, GROUP, imageTemplates.type, name);
    const body = {
      location: LOCATION,
      properties: {
        source: { type: 'PlatformImage', publisher: 'Boot', offer: name, sku: 'gen2', version: 'latest' },
        customize: [{ type: 'Shell', name: 'look', inline: LOOK }],
        distribute: [{ type: 'SharedImage', runOutputName: 'out', galleryImageId: DEFINITION }],
      },
    };
    const checked = validateTemplate(body, { apiVersion: API, localFiles: true, identityOptional: true });
    const template = normaliseTemplate(checked.template, API);
    const guest = await sourceOf(template, { database, home: service.home });
    await ensureNeighbours(database, { templateId: id, template, guest, strict: false });
    await patchProperties(database, DEFINITION, { features: [{ name: 'SecurityType', value: 'TrustedLaunch' }] });
    const { operation } = await putTemplate(engine, database, {
      id,
      body,
      apiVersion: API,
      local: true,
      where: 'here',
      home: service.home,
    });
    const { status, error } = await engine.wait(operation);
    assert.equal(status, 'Succeeded', JSON.stringify(error));
    const runId = await startRun(engine, database, id, { where: 'here', machines, cache: { use: false } });
    await engine.wait(runId);
    const { state, message } = await database
      .selectFrom('run')
      .select(['state', 'message'])
      .where('id', '=', runId)
      .executeTakeFirstOrThrow();
    const log = await readFile(join(service.home.logs, runId, 'customization.log'), 'utf8');
    return { state, message, log };
  }

  test('what is signed is built and proven with Secure Boot and a TPM', async () => {
    const { state, message, log } = await build('signed');
    assert.equal(state, 'Succeeded', message ?? '');
    assert.match(log, /fact secure-boot=1$/m);
    assert.match(log, /fact tpm=2$/m);
    assert.match(log, /The image boots and answers/);
  });

  test('what is not fails as soon as the firmware has refused it, and says why', async () => {
    const { state, message } = await build('unsigned');
    assert.equal(state, 'Failed');
    assert.match(message!, /The firmware found nothing that it may start\./);
    assert.match(message!, /Access Denied/);
  });
});
