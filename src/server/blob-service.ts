/** The blob service of an account: its containers, its properties. */
import { listContainers } from '../blobs/containers.ts';
import { json } from '../database/json.ts';
import { BlobError } from './blob-errors.ts';
import { containersXml, listQuery } from './blob-list.ts';
import { type BlobAnswer, type BlobRequest, textBody } from './blob-request.ts';
import { child, childText, type Element, readXml } from './blob-xml.ts';
import { requireAllowed } from './storage-auth.ts';
import { xml } from './xml.ts';

const SERVICE = { level: 'service' } as const;

export async function listAll(request: BlobRequest): Promise<BlobAnswer> {
  await requireAllowed(request.grant, 'list', SERVICE);
  const query = listQuery(request.query);
  const { prefix, marker: after, maxResults } = query;
  const found = await listContainers(request.store.database, request.account, { prefix, after, limit: maxResults + 1 });
  const page = found.slice(0, maxResults);
  const nextMarker = found.length > maxResults ? page.at(-1)!.name : '';
  return { status: 200, xml: containersXml(page, query, endpointOf(request), nextMarker) };
}

export const endpointOf = ({ options, account }: BlobRequest): string => `${options.origin()}/${account}/`;

/** What the account is, for clients that choose their ways by it. */
export async function accountInformation(request: BlobRequest): Promise<BlobAnswer> {
  await requireAllowed(request.grant, 'read', request.level === 'service' ? SERVICE : targetOf(request));
  const { sku, kind } = request.owner.resource as { sku?: { name?: string }; kind?: string };
  return {
    status: 200,
    headers: {
      'x-ms-sku-name': sku?.name ?? 'Standard_LRS',
      'x-ms-account-kind': kind ?? 'StorageV2',
      'x-ms-is-hns-enabled': 'false',
    },
  };
}

const targetOf = ({ container, blob }: BlobRequest) =>
  blob === undefined
    ? ({ level: 'container', container: container! } as const)
    : ({ level: 'blob', container: container!, blob } as const);

/** Kept and shown again; nothing is logged, measured or kept after its deletion, and CORS is for browsers, which this server does not serve. */
const DEFAULTS = Object.freeze({
  Logging:
    '<Version>1.0</Version><Delete>false</Delete><Read>false</Read><Write>false</Write><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy>',
  HourMetrics:
    '<Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy>',
  MinuteMetrics:
    '<Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy>',
  Cors: '',
  DefaultServiceVersion: '',
  DeleteRetentionPolicy: '<Enabled>false</Enabled>',
  StaticWebsite: '<Enabled>false</Enabled>',
});

export async function serviceProperties(request: BlobRequest): Promise<BlobAnswer> {
  await requireAllowed(request.grant, 'read', SERVICE);
  const row = await request.store.database
    .selectFrom('blob_service')
    .select('properties')
    .where('account', '=', request.account)
    .executeTakeFirst();
  const parts: Readonly<Record<string, unknown>> = { ...DEFAULTS, ...row?.properties };
  const body = Object.entries(parts)
    .filter(([name, inner]) => name !== 'DefaultServiceVersion' || inner !== '')
    .map(([name, inner]) => `<${name}>${inner}</${name}>`);
  return {
    status: 200,
    xml: `<?xml version="1.0" encoding="utf-8"?><StorageServiceProperties>${body.join('')}</StorageServiceProperties>`,
  };
}

/** What would promise something that is not done is refused. */
export async function setServiceProperties(request: BlobRequest): Promise<BlobAnswer> {
  await requireAllowed(request.grant, 'write', SERVICE);
  const root = readXml(await textBody(request, 64 * 1024));
  if (root.name !== 'StorageServiceProperties')
    throw new BlobError(400, 'InvalidXmlDocument', 'XML specified is not syntactically valid.');
  for (const name of ['DeleteRetentionPolicy', 'StaticWebsite']) {
    const part = child(root, name);
    if (part && childText(part, 'Enabled')?.toLowerCase() === 'true')
      throw new BlobError(
        400,
        'FeatureNotSupported',
        `${name} is not supported: what is deleted is gone, and no website is served.`,
      );
  }
  const given = root.children
    .filter(({ name }) => name in DEFAULTS)
    .map(element => [element.name, inner(element)] as const);
  const { database } = request.store;
  await database.transaction().execute(async trx => {
    const row = await trx
      .selectFrom('blob_service')
      .select('properties')
      .where('account', '=', request.account)
      .forUpdate()
      .executeTakeFirst();
    const properties = json<Readonly<Record<string, unknown>>>({ ...row?.properties, ...Object.fromEntries(given) });
    await trx
      .insertInto('blob_service')
      .values({ account: request.account, properties })
      .onConflict(conflict => conflict.column('account').doUpdateSet({ properties }))
      .execute();
  });
  return { status: 202 };
}

/** The element's content as XML again: only names that XML took and text that is escaped. */
function inner({ text, children }: Element): string {
  return children.length === 0
    ? xml`${text}`
    : children.map(one => `<${one.name}>${inner(one)}</${one.name}>`).join('');
}
