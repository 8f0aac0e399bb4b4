/**
 * The machine that builds, as resources in the template's staging group, while it is there (contract 3.4): the virtual machine, its disks and its network interface,
 * under names like Packer's. They tell of something that exists; nothing is done through them, and nobody else may change or delete them. They are gone
 * when the machine is: with the capture, the end of the run, or the end of the time that it is kept. Whoever ends a run whose process was killed removes them as well.
 * Locks hold back people who would delete the group; no lock makes a machine stay, or its rows.
 */
import { type Kysely, sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { formatId, parseId, type ResourceId, resourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { freeUnits } from '../../builds/data-disks.ts';
import type { Transacting } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { SourceImage } from '../../images/source.ts';
import type { MachineShape } from '../../machines/machine.ts';
import { MAC_ADDRESS } from '../../machines/qemu/command-line.ts';
import { DEFAULT_SIZES } from '../../machines/sizes.ts';
import { isDeleting } from '../resources/groups.ts';
import { putResource, type StoredResource } from '../store.ts';
import { templateOf } from './image-templates.ts';
import { lockGroup, MAKER, managedTags, stagingOf } from './staging.ts';
import { ACTIVE } from './states.ts';

const MACHINE = 'Microsoft.Compute/virtualMachines';
const DISK = 'Microsoft.Compute/disks';
const INTERFACE = 'Microsoft.Network/networkInterfaces';
const TYPES: readonly string[] = [MACHINE, DISK, INTERFACE];
const COMPUTE_API = '2024-07-01';
const NETWORK_API = '2024-05-01';
const NAME = /^pkr(?:vm|ni|os|dd)([0-9a-f]{10})(?:-\d+)?$/;
/** What QEMU's user-mode network gives every guest. */
const GUEST_ADDRESS = '10.0.2.15';
const GIB = 1024 ** 3;

export interface BuildMachine {
  readonly runId: string;
  readonly shape: MachineShape;
  readonly source: SourceImage;
}

const suffixOf = (runId: string): string => runId.replaceAll('-', '').slice(0, 10).toLowerCase();

/** Does nothing where the template stages nothing, its group is gone or going, or no virtual machine builds. Replaces what an earlier attempt has put. */
export async function putBuildResources(
  database: Kysely<Schema>,
  template: StoredResource,
  machine: BuildMachine,
): Promise<void> {
  const staging = stagingOf(template);
  if (!staging || machine.shape.kind !== 'qemu') return;
  await database.transaction().execute(async trx => {
    const group = await lockGroup(trx, staging.group);
    if (!group || isDeleting(group)) return;
    for (const resource of resourcesOf(template, staging.group, machine)) await putResource(trx, resource);
  });
}

type Written = Parameters<typeof putResource>[1];

function resourcesOf(template: StoredResource, group: string, { runId, shape, source }: BuildMachine): Written[] {
  const { subscription, resourceGroup } = parseId(group);
  const { properties, location } = templateOf(template);
  const { vmProfile, additionalDataDisks = [], managedResourceTags } = properties;
  const suffix = suffixOf(runId);
  const idOf = (type: string, name: string) => resourceId(subscription, resourceGroup!, type, `pkr${name}`);
  const machineId = idOf(MACHINE, `vm${suffix}`);
  const interfaceId = idOf(INTERFACE, `ni${suffix}`);
  const common = { location, tags: managedTags(template, managedResourceTags), unmodelled: {} };
  const osSize = Math.max((vmProfile?.osDiskSizeGB ?? 0) * GIB, source.virtualSize);
  const brought = source.dataDisks ?? [];
  const added = freeUnits(
    brought.map(({ lun }) => lun),
    additionalDataDisks.length,
  );
  const data = [
    ...brought.map(({ lun, virtualSize }) => ({ lun, size: virtualSize, createOption: 'FromImage' })),
    ...added.map((lun, index) => ({
      lun,
      size: (additionalDataDisks[index]!.sizeGB ?? 0) * GIB,
      createOption: 'Empty',
    })),
  ].sort((a, b) => a.lun - b.lun);
  const disk = (id: string, size: number, createOption: string, more: JsonObject = {}): Written => ({
    ...{ ...common, id, apiVersion: COMPUTE_API },
    unmodelled: { managedBy: machineId },
    properties: {
      ...{ ...more, creationData: { createOption }, diskSizeGB: Math.ceil(size / GIB), diskSizeBytes: size },
      ...{ diskState: 'Attached', provisioningState: 'Succeeded' },
    },
  });
  const attached = (id: string, size: number, createOption: string): JsonObject => ({
    ...{ name: parseId(id).name, createOption, diskSizeGB: Math.ceil(size / GIB), managedDisk: { id } },
  });
  const osDiskId = idOf(DISK, `os${suffix}`);
  const dataDisks = data.map(one => ({ ...one, id: idOf(DISK, `dd${suffix}-${one.lun}`) }));
  const { osType, hyperVGeneration } = source;
  return [
    {
      ...{ ...common, id: machineId, apiVersion: COMPUTE_API },
      properties: {
        provisioningState: 'Succeeded',
        vmId: runId,
        hardwareProfile: {
          vmSize: vmProfile?.vmSize || DEFAULT_SIZES[hyperVGeneration],
          // What this host gives of the size.
          vmSizeProperties: { vCPUsAvailable: shape.processors },
        },
        storageProfile: {
          imageReference: imageReference(properties.source, source),
          osDisk: { osType, ...attached(osDiskId, osSize, 'FromImage') },
          dataDisks: dataDisks.map(({ id, lun, size, createOption }) => ({ lun, ...attached(id, size, createOption) })),
        },
        osProfile: { computerName: 'kiln' },
        networkProfile: { networkInterfaces: [{ id: interfaceId, properties: { primary: true } }] },
      },
    },
    disk(osDiskId, osSize, 'FromImage', { osType, hyperVGeneration }),
    ...dataDisks.map(({ id, size, createOption }) => disk(id, size, createOption)),
    {
      ...{ ...common, id: interfaceId, apiVersion: NETWORK_API },
      properties: {
        ...{ provisioningState: 'Succeeded', primary: true, virtualMachine: { id: machineId } },
        macAddress: MAC_ADDRESS.toUpperCase().replaceAll(':', '-'),
        ipConfigurations: [
          {
            name: 'ipconfig',
            properties: { privateIPAddress: GUEST_ADDRESS, privateIPAllocationMethod: 'Dynamic', primary: true },
          },
        ],
      },
    },
  ];
}

type TemplateSource = ReturnType<typeof templateOf>['properties']['source'];

function imageReference(named: TemplateSource, { name, exactVersion }: SourceImage): JsonObject {
  if (named.type !== 'PlatformImage') return { id: name };
  const { publisher, offer, sku, version } = named;
  return { publisher, offer, sku, version, exactVersion };
}

/** Also when the template is gone. */
export async function removeBuildResources(store: Kysely<Schema>, runId: string): Promise<void> {
  const suffix = suffixOf(runId);
  await store
    .deleteFrom('resource')
    .where(
      eb => eb.fn<string>('lower', ['type']),
      'in',
      TYPES.map(type => type.toLowerCase()),
    )
    .where(({ or, eb }) =>
      or([
        eb('name', 'in', [`pkrvm${suffix}`, `pkrni${suffix}`, `pkros${suffix}`]),
        eb('name', 'like', `pkrdd${suffix}-%`),
      ]),
    )
    .where(sql<boolean>`tags ->> 'createdBy' = ${MAKER}`)
    .execute();
}

/** The same at the end of a run, in its transaction: a machine that is kept has its resources as long as it is. */
export async function removeUnlessKept(trx: Transacting, runId: string): Promise<void> {
  const run = await trx.selectFrom('run').select('kept_by').where('id', '=', runId).executeTakeFirst();
  if (run?.kept_by == null) await removeBuildResources(trx, runId);
}

/** Before somebody changes or deletes a resource of a type that Kiln does not know. Errors: Conflict, where it is part of a machine that builds. */
export async function requireNoBuildMachine(store: Kysely<Schema>, id: ResourceId): Promise<void> {
  const suffix =
    TYPES.some(type => type.toLowerCase() === id.type.toLowerCase()) && NAME.exec(id.name.toLowerCase())?.[1];
  if (!suffix) return;
  const run = await store
    .selectFrom('run')
    .select(['id', 'template_name'])
    .where(({ or, eb }) => or([eb('state', 'in', ACTIVE), eb('kept_by', 'is not', null)]))
    .where(sql<boolean>`starts_with(replace(id::text, '-', ''), ${suffix})`)
    .where(sql<boolean>`starts_with(template_id, ${`/subscriptions/${id.subscription.toLowerCase()}/`})`)
    .executeTakeFirst();
  if (!run) return;
  throw new KilnError(
    'Conflict',
    `The resource '${id.name}' cannot be changed or deleted: it is part of the machine of run ${run.id}, which builds the image template '${run.template_name}'.`,
    {
      target: formatId(id),
      hint: `Cancel the run; a machine that was kept ends with kiln runs drop ${run.id.slice(0, 8)}.`,
    },
  );
}
