/**
 * Every failure that the contract knows (section 3.2 of ../shared/notes/arm-contract.md), row by row: those that can happen here are provoked over HTTP and their texts
 * compared; of the others it is said which test has them, or why they cannot happen. Where the contract lies beside the checkout, no row of it may be missing.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { patchProperties } from '../../src/providers/store.ts';
import { ROOT } from '../kiln.ts';
import { startTestServer, type TestServer } from '../server.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers
type Wire = any;

let server: TestServer;
let files: FileServer;
let ground: Ground;

before(async () => {
  server = await startTestServer();
  files = await serveFiles();
  ground = await makeGround(server, 'failures');
});
after(async () => {
  await files?.close();
  await server?.close();
});

/** What a client is told. */
interface Told {
  /** Of the answer itself; missing for what an operation says. */
  readonly status?: number;
  readonly code: string;
  readonly message: string;
  /** Of a creation. */
  readonly provisioningErrorCode?: string;
}

type Row = {
  /** Part of the row in the contract, by which it is known. */
  readonly row: string;
} & (
  | { readonly provoke: () => Promise<Told>; readonly told: Omit<Told, 'message'>; readonly message: string | RegExp }
  /** A test that does it: its file and its name. */
  | { readonly elsewhere: readonly [file: string, name: string] }
  | { readonly never: string }
);

const REQUIRED =
  'Please review http://aka.ms/azvmimagebuildertmplref for details on fields required in the Image Builder Template.';
const REQUIREMENTS =
  'Please review http://aka.ms/azvmimagebuildertmplref for details on fields requirements in the Image Builder Template.';
const TROUBLE = 'https://aka.ms/azvmimagebuilderts';
const notAllowed = (operation: string, provisioning: string, run: string) =>
  `Operation Microsoft.VirtualMachineImages/imageTemplates/${operation} is not allowed in provisioning state: ${provisioning} or run state: ${run}.`;

function template(properties: object = {}, more: object = {}): Wire {
  const whole = plainTemplate(ground) as Wire;
  return { ...whole, ...more, properties: { ...whole.properties, ...properties } };
}

/** The error of an answer that refuses. */
async function refusal(method: string, path: string, body?: unknown, apiVersion = NEWEST): Promise<Told> {
  const answer = await server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
  assert.ok(answer.status >= 400, `${method} ${path}: ${answer.status} ${answer.text}`);
  const { error = answer.body } = answer.body as { error?: Wire };
  return { status: answer.status, code: error.code, message: error.message };
}

const put = (body: unknown, apiVersion?: string) => refusal('PUT', ground.template('refused'), body, apiVersion);

let count = 0;

/** Makes a template; @returns its path and how its creation ended. */
async function create(properties: object = {}, more: object = {}): Promise<{ path: string; told: Told }> {
  const path = ground.template(`failure-${count++}`);
  const made = await server.request('PUT', path, { apiVersion: NEWEST, body: template(properties, more) });
  assert.equal(made.status, 201, made.text);
  const operation = (await server.settled(made)).body as Wire;
  const { provisioningError } = ((await server.request('GET', path, { apiVersion: NEWEST })).body as Wire).properties;
  const { code } = operation.error ?? {};
  // Of a defect operations of all providers say the same; the template says it in the service's words.
  if (code !== undefined && code !== 'InternalServerError')
    assert.equal(operation.error.message, provisioningError.message);
  const { message, provisioningErrorCode } = provisioningError ?? {};
  return { path, told: { code, message, provisioningErrorCode } };
}

const failed = async (properties: object, more?: object): Promise<Told> => (await create(properties, more)).told;

async function good(properties?: object): Promise<string> {
  const { path, told } = await create(properties);
  assert.equal(told.code, undefined, told.message);
  return path;
}

/** Runs a template; what its status says is what the operation says it failed of. */
async function runFailure(path: string): Promise<Told> {
  const operation = (await server.settled(await server.request('POST', `${path}/run`, { apiVersion: NEWEST })))
    .body as Wire;
  assert.equal(operation.status, 'Failed');
  const { lastRunStatus } = ((await server.request('GET', path, { apiVersion: NEWEST })).body as Wire).properties;
  assert.equal(lastRunStatus.runState, 'Failed');
  assert.equal(operation.error.message, lastRunStatus.message, 'both say the same');
  return { code: operation.error.code, message: lastRunStatus.message };
}

/** Does something while a run of the template waits for its machine. */
async function whileRunning<T>(work: (path: string) => Promise<T>): Promise<T> {
  const path = await good();
  server.machines.hold();
  const run = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
  try {
    for (; server.machines.held === 0; ) await new Promise(resolve => setTimeout(resolve, 10));
    return await work(path);
  } finally {
    await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST });
    server.machines.release();
    await server.settled(run);
  }
}

const image = (name: string) => `${ground.group}/providers/Microsoft.Compute/images/${name}`;
const shared = (galleryImageId: string) => [{ type: 'SharedImage', runOutputName: 'out', galleryImageId }];
const step = (more: object) => ({ customize: [{ type: 'Shell', name: 'install', ...more }] });

async function identity(name: string): Promise<object> {
  const id = ground.identityId.replace(/builder$/, name);
  const made = await server.request('PUT', id, { apiVersion: '2023-01-31', body: { location: 'westus' } });
  assert.equal(made.status, 201, made.text);
  return as(id);
}

const as = (id: string) => ({ identity: { type: 'UserAssigned', userAssignedIdentities: { [id]: {} } } });

/** A file where a directory of the server should be. */
async function withoutFiles<T>(work: () => Promise<T>): Promise<T> {
  const { files: directory, root } = server.service.home;
  await rename(directory, join(root, 'aside'));
  await writeFile(directory, '');
  try {
    return await work();
  } finally {
    await rm(directory);
    await rename(join(root, 'aside'), directory);
  }
}

/** What the service logged as errors because a row made it do so. */
let defects = 0;

const ROWS: readonly Row[] = [
  {
    row: 'Update/Upgrade of image templates is currently not supported',
    provoke: async () => refusal('PUT', await good(), template()),
    told: { status: 409, code: 'Conflict' },
    message: `Update/Upgrade of image templates is currently not supported. Please change the name of the template you are submitting. If you have previously tried to submit a template and it failed to provision, you must delete it first and then resubmit. For more information, go to ${TROUBLE}.`,
  },
  {
    row: "'ImageTemplate': Missing field 'identity'",
    provoke: () => put(template({}, { identity: undefined })),
    told: { status: 400, code: 'ValidationFailed' },
    message: `Validation failed: 'ImageTemplate': Missing field 'identity'. ${REQUIRED}`,
  },
  {
    row: "'ImageTemplate.properties.distribute[<index>]': Missing field <fieldname>",
    provoke: () => put(template({ distribute: [{ type: 'VHD' }] })),
    told: { status: 400, code: 'ValidationFailed' },
    message: `Validation failed: 'ImageTemplate.properties.distribute[0]': Missing field 'runOutputName'. ${REQUIRED}`,
  },
  // The error envelope came with 2021-10-01; `refusal` reads both.
  ...['2020-02-14', NEWEST].map(
    (apiVersion): Row => ({
      row: "Field 'imageId' has a bad value: '<v>'",
      provoke: () => put(template({ source: { type: 'ManagedImage', imageId: 'nonsense' } }), apiVersion),
      told: { status: 400, code: 'ValidationFailed' },
      message: `Validation failed: 'ImageTemplate.properties.source': Field 'imageId' has a bad value: 'nonsense'. ${REQUIREMENTS}`,
    }),
  ),
  {
    // The service has forgotten what it was: it says ''. So does Kiln where there is none; where one was given, it is named.
    row: "Field 'distribute[0].type' has a bad value: ''.",
    provoke: () => put(template({ distribute: [{ runOutputName: 'out' }] })),
    told: { status: 400, code: 'ValidationFailed' },
    message: `Validation failed: 'ImageTemplate.properties': Field 'distribute[0].type' has a bad value: ''. ${REQUIREMENTS}`,
  },
  {
    row: "Field 'distribute[0].type' has a bad value: ''.",
    provoke: () => put(template({ distribute: [{ type: 'sharedImage', runOutputName: 'out' }] })),
    told: { status: 400, code: 'ValidationFailed' },
    message: `Validation failed: 'ImageTemplate.properties': Field 'distribute[0].type' has a bad value: 'sharedImage'. ${REQUIREMENTS}`,
  },
  {
    row: 'Deleting a distribution target is not allowed',
    provoke: async () =>
      refusal('PATCH', await good(), { properties: { distribute: [{ type: 'VHD', runOutputName: 'other' }] } }),
    told: { status: 400, code: 'ValidationFailed' },
    message:
      'Validation failed: Distribute target with Runoutput name out not found in the update request. Deleting a distribution target is not allowed.',
  },
  {
    row: 'Unmarshalling entity encountered error',
    provoke: () => put(template({ optimize: { vmboot: { state: 'Enabled' } } }), '2024-02-01'),
    told: { status: 400, code: 'ValidationFailed' },
    message:
      'Unmarshalling entity encountered error: unmarshalling type *v2024_02_01.ImageTemplate: struct field Properties: unmarshalling type *v2024_02_01.ImageTemplateProperties: struct field Optimize: unmarshalling type *v2024_02_01.ImageTemplatePropertiesOptimize: unmarshalling type *v2024_02_01.ImageTemplatePropertiesOptimize, unknown field "vmboot". There is an issue with the syntax with the JSON template you are submitting. Please check the JSON template for syntax and grammar. For more information on the syntax and grammar of the JSON template, visit http://aka.ms/azvmimagebuildertmplref.',
  },
  {
    row: 'imageTemplates/delete is not allowed in provisioning state: provisioned or run state: running',
    provoke: () => whileRunning(path => refusal('DELETE', path)),
    told: { status: 405, code: 'OperationNotAllowed' },
    message: notAllowed('delete', 'provisioned', 'running'),
  },
  {
    row: 'imageTemplates/cancel/action is not allowed in provisioning state: provisioned or run state: canceling',
    provoke: () =>
      whileRunning(async path => {
        const canceled = await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST });
        assert.deepEqual([canceled.status, canceled.text], [204, '']);
        return await refusal('POST', `${path}/cancel`);
      }),
    told: { status: 405, code: 'OperationNotAllowed' },
    message: notAllowed('cancel/action', 'provisioned', 'canceling'),
  },
  {
    row: 'imageTemplates/run[/action] is not allowed in provisioning state: failed',
    provoke: async () => {
      const { path } = await create({ source: { type: 'ManagedImage', imageId: image('none') } });
      return await refusal('POST', `${path}/run`);
    },
    told: { status: 405, code: 'OperationNotAllowed' },
    message: notAllowed('run/action', 'failed', 'none'),
  },
  {
    row: 'imageTemplates/run[/action] is not allowed in provisioning state: failed',
    provoke: () => whileRunning(path => refusal('POST', `${path}/run`)),
    told: { status: 405, code: 'OperationNotAllowed' },
    message: notAllowed('run/action', 'provisioned', 'running'),
  },
  {
    row: "Operation 'DELETE' is not allowed in provisioningState: 'creating'",
    provoke: async () => {
      const path = await good();
      await patchProperties(server.service.database.kysely, path, { provisioningState: 'Creating' });
      const told = await refusal('DELETE', path);
      await patchProperties(server.service.database.kysely, path, { provisioningState: 'Succeeded' });
      return told;
    },
    told: { status: 405, code: 'OperationNotAllowed' },
    message: "Operation 'DELETE' is not allowed in provisioningState: 'creating'.",
  },
  {
    row: 'Not authorized to access the resource: <id>',
    provoke: async () => failed({}, await identity('stranger')),
    told: { code: 'Unauthorized', provisioningErrorCode: 'Other' },
    message:
      /^Not authorized to access the resource: \/subscriptions\/[^ ]+\/images\/out\. Please check the user assigned identity has the correct permissions\. For more details, go to https:\/\/aka\.ms\/azvmimagebuilderts\.$/,
  },
  {
    row: 'The assigned managed identity cannot be used',
    provoke: () => failed({}, as(ground.identityId.replace(/builder$/, 'ghost'))),
    told: { code: 'Unauthorized', provisioningErrorCode: 'Other' },
    message: `The assigned managed identity cannot be used. Please remove the existing one and re-assign a new identity. For more troubleshooting steps go to ${TROUBLE}.`,
  },
  {
    row: 'Internal error occurred. This is a generic error',
    provoke: async () => {
      const before = server.errors.length;
      const told = await withoutFiles(() => failed({}));
      defects += server.errors.length - before;
      return told;
    },
    // The service's code is InternalOperationError; Kiln's defects have one code, whatever was asked for.
    told: { code: 'InternalServerError', provisioningErrorCode: 'ServerError' },
    message: `Internal error occurred. This is a generic error. To identify possible causes, go to ${TROUBLE}.`,
  },
  {
    // Rights are looked at before: who has none is told so by the sentence for that (`Not authorized …`). The beginning is also that of an image that is not there.
    row: "Build (Managed Image) step failed: Error getting Managed Image '<id>'",
    provoke: () => failed({ source: { type: 'ManagedImage', imageId: image('none') } }),
    told: { code: 'SourceNotFound', provisioningErrorCode: 'BadManagedImageSource' },
    message:
      /^Build \(Managed Image\) step failed: Error getting Managed Image '[^']+\/images\/none': No image was built here that is called [^ ]+\/images\/none\.$/,
  },
  {
    row: "Build (Shared Image Version) step failed for Image Version '<id>'",
    provoke: () =>
      failed({ source: { type: 'SharedImageVersion', imageVersionId: `${ground.definitionId}/versions/9.9.9` } }),
    told: { code: 'SourceNotFound', provisioningErrorCode: 'BadSharedImageVersionSource' },
    message:
      /^Build \(Shared Image Version\) step failed for Image Version '([^']+\/versions\/9\.9\.9)': Error getting Image Version '\1': No image was built here that is called \1\.$/,
  },
  {
    row: "Build (Shared Image Version) step failed for Image Version '<id>'",
    elsewhere: [
      'test/wire/sources.test.ts',
      'a gallery version has to be in the region of the template; latest is the newest that is',
    ],
  },
  ...['Downloading external file (<file>) to local file', '| NoCustomizerScript |'].map(
    (row): Row => ({
      row,
      provoke: () => failed(step({ scriptUri: `${files.origin}/missing.sh` })),
      told: { code: 'DownloadFailed', provisioningErrorCode: 'NoCustomizerScript' },
      // What the service leaves out follows: which step, and what the server said.
      message:
        /^Downloading external file \((http[^ ]+\/missing\.sh)\) to local file \(([0-9a-f]{5}\.0\.customizer\.fp)\) \[attempt \d+ of \d+\] failed: Error downloading '\1' to '\2'\.\. It is for properties\.customize\[0\] \(Shell "install"\): .*404/,
    }),
  ),
  {
    row: '| BadSharedImageDistribute |',
    provoke: () => failed({ distribute: shared(ground.definitionId.replace(/definition$/, 'none')) }),
    told: { code: 'ResourceNotFound', provisioningErrorCode: 'BadSharedImageDistribute' },
    message:
      "The Resource 'Microsoft.Compute/galleries/images/gallery/none' under resource group 'failures' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
  },
  {
    row: '| LinkedAuthorizationFailed (403) |',
    elsewhere: ['test/wire/rules.test.ts', 'a role that links to something needs rights on it, too'],
  },
  {
    row: '| LinkedAuthorizationFailed (403) |',
    elsewhere: [
      'src/providers/image-builder/provider.test.ts',
      'the caller may give the template only what is its own to give',
    ],
  },
  {
    row: 'Azure Container Instances provider not registered',
    never: 'Builds need no container instances: the server itself runs them.',
  },
  {
    row: 'Azure Container Instances quota exceeded',
    never: 'There are no container instances and no quotas: builds wait until it is their turn.',
  },
  {
    row: '| BadStagingResourceGroup |',
    provoke: () => failed({ stagingResourceGroup: ground.group }),
    told: { code: 'Conflict', provisioningErrorCode: 'BadStagingResourceGroup' },
    // The service's text is not documented.
    message: /^The staging resource group '[^']+\/failures' cannot be used: it is not empty: it has \d+ resources\.$/,
  },
  {
    row: 'Packer build command has failed: exit status 1',
    provoke: async () => runFailure(await good(step({ inline: ['echo no', 'exit 7'] }))),
    told: { code: 'StepFailed' },
    message: new RegExp(
      '^Failed while waiting for packerizer: Microservice has failed: Failed while processing request: Error when executing packerizer: Packer build command has failed: exit status 1\\. ' +
        'During the image build, a failure has occurred, please review the build log to identify which build/customization step failed\\. ' +
        'For more troubleshooting steps go to https://aka\\.ms/azvmimagebuilderts\\. ' +
        'Image Build log location: https://[^ ]+/packerlogs/([0-9a-f-]{36})/customization\\.log\\. ' +
        'OperationId: \\1\\. Use this operationId to search packer logs\\. ' +
        'Step 1/1 Shell "install" failed with exit code 7\\. It printed nothing\\.$',
    ),
  },
  {
    row: 'Packer build command has failed: exit status 1',
    provoke: async () =>
      runFailure(await good({ validate: { inVMValidations: [{ type: 'Shell', inline: ['exit 8'] }] } })),
    told: { code: 'StepFailed' },
    message:
      /^Failed while waiting for packerizer: .* Image Build log location: https:\/\/[^ ]+\/validation\.log\. .* Validator 1\/1 Shell failed with exit code 8\. It printed nothing\.$/,
  },
  {
    row: 'Failed in building/customizing image: Failed while waiting for packerizer: Timeout waiting for microservice',
    provoke: async () => {
      const path = await good();
      // No client may ask for so little.
      await patchProperties(server.service.database.kysely, path, { buildTimeoutInMinutes: 1 / 60 });
      server.machines.hold();
      const begun = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
      const { operation } = (await server.service.database.kysely
        .selectFrom('run')
        .select('operation_id as operation')
        .where('template_id', '=', path.toLowerCase())
        .executeTakeFirstOrThrow()) as { operation: string };
      assert.ok(operation);
      // The machine that is to end waits for it.
      setTimeout(() => server.machines.release(), 1500);
      const ended = (await server.settled(begun)).body as Wire;
      const { lastRunStatus } = ((await server.request('GET', path, { apiVersion: NEWEST })).body as Wire).properties;
      return { code: ended.error.code, message: lastRunStatus.message };
    },
    told: { code: 'Timeout' },
    message:
      "Failed in building/customizing image: Failed while waiting for packerizer: Timeout waiting for microservice to complete: 'context deadline exceeded'. It took longer than the 1 s that it may take.",
  },
  {
    row: 'Failed in distributing 1 images out of total 1',
    elsewhere: [
      'src/providers/image-builder/run.test.ts',
      'the clock ends a run: while it builds and while it distributes, each in the sentence of the service',
    ],
  },
  {
    row: 'Failed in distributing 1 images out of total 1',
    provoke: async () => {
      const distribute = shared(`${ground.definitionId}/versions/1.0.0`);
      const path = await good({ distribute });
      const first = (await server.settled(await server.request('POST', `${path}/run`, { apiVersion: NEWEST })))
        .body as Wire;
      assert.equal(first.status, 'Succeeded');
      const told = await runFailure(path);
      // The log that the sentence names is there, and says why.
      const [, runId] = /packerlogs\/([0-9a-f-]{36})\/customization\.log/.exec(told.message)!;
      const log = readFileSync(join(server.service.home.logs, runId!, 'customization.log'), 'utf8');
      assert.match(log, /PACKER OUT Build 'azure-arm' errored: The image version 1\.0\.0 exists already\.$/m);
      return told;
    },
    told: { code: 'Conflict' },
    // Seen before anything was built, so no distribution has failed.
    message: /^Failed while waiting for packerizer: .* The image version 1\.0\.0 exists already\.$/,
  },
  {
    row: 'network.InterfacesClient#UpdateTags',
    never: 'A build has no network interface as a resource whose tags it would have to write.',
  },
  {
    row: 'client_jwt will expire within 5 minutes',
    never:
      'A buildTimeoutInMinutes of 1 to 5 is refused when the template is made (src/providers/image-builder/validate.test.ts).',
  },
  {
    row: 'Image template is not provisioned; cannot get packer logs',
    never:
      'Logs are blobs, asked for at the storage account, which a template that is not provisioned may not have: then it is not found.',
  },
  {
    row: '| deploy wrapper |',
    never: 'Kiln answers no deployments (Microsoft.Resources/deployments) yet.',
  },
];

for (const [index, row] of ROWS.entries()) {
  if ('never' in row) continue;
  if ('elsewhere' in row) {
    const [file, name] = row.elsewhere;
    test(`row ${index}, ${row.row}: the test that provokes it is there`, () => {
      const text = readFileSync(join(ROOT, file), 'utf8');
      assert.ok(text.includes(`test('${name}'`) || text.includes(`test("${name}"`), `${file} has no test '${name}'`);
    });
    continue;
  }
  test(`row ${index}, ${row.row}`, async () => {
    const { message, ...told } = await row.provoke();
    const { status, code, provisioningErrorCode } = told;
    assert.deepEqual(
      {
        ...(row.told.status !== undefined && { status }),
        code,
        ...(row.told.provisioningErrorCode !== undefined && { provisioningErrorCode }),
      },
      row.told,
      message,
    );
    if (typeof row.message === 'string') assert.equal(message, row.message);
    else assert.match(message, row.message);
  });
}

const notes = join(process.env.KILN_NOTES ?? join(ROOT, '../shared/notes'), 'arm-contract.md');

test('every row of the contract is here', {
  skip: !existsSync(notes) && `The contract is not at ${notes} (KILN_NOTES).`,
}, () => {
  const section = /^## 3\.2 .*?$(.*?)^Pattern of/ms.exec(readFileSync(notes, 'utf8'))![1]!;
  const lines = section.split('\n').filter(line => /^\| (?!Channel|-)/.test(line));
  assert.ok(lines.length > 25, `${lines.length} rows`);
  assert.deepEqual(
    lines.filter(line => !ROWS.some(({ row }) => line.replaceAll('\\"', '"').includes(row))),
    [],
    'rows of the contract that are not here',
  );
  assert.deepEqual(
    ROWS.filter(({ row }) => !lines.some(line => line.replaceAll('\\"', '"').includes(row))).map(({ row }) => row),
    [],
    'rows that the contract has not',
  );
});

test('nothing else failed inside, and answers were of the OpenAPI files', () => {
  assert.deepEqual(server.violations, []);
  assert.equal(server.errors.length, defects, server.errors.join('\n'));
});
