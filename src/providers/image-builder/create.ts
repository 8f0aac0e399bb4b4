/**
 * The `create` operation of an image template: its scripts and files are fetched and kept, its source is looked up. Until it has succeeded the template
 * cannot be run; when it fails, the template keeps the reason (`provisioningError`).
 */
import type { Kysely } from 'kysely';
import { asKilnError } from '../../arm/errors.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { whenReachable } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { Engine } from '../../engine/engine.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { download } from '../../images/catalogue/download.ts';
import { putValidated, requireResource } from '../life.ts';
import { patchProperties } from '../store.ts';
import { imageTemplates, templateOf } from './image-templates.ts';
import { prepareTemplate, provisioningErrorCode } from './prepare.ts';
import { activeRun, runInProgress } from './run.ts';
import { sourceOf } from './source-image.ts';

export const CREATE_KIND = 'Microsoft.VirtualMachineImages/imageTemplates/create';

export interface PutTemplateOptions {
  readonly id: string;
  /** Untrusted JSON. */
  readonly body: JsonObject;
  readonly apiVersion: string;
  /** `kiln build`: local files are allowed, an identity is not demanded, a template that is there is replaced. */
  readonly local: boolean;
  /** A catalogue file that wins over the state directory's; from the command line only. */
  readonly catalogue?: string;
  readonly where: 'here' | 'anywhere';
}

interface CreateInput {
  readonly templateId: string;
  readonly local: boolean;
  readonly catalogue?: string;
}

/** Stores the template and begins its creation, in one transaction. @returns the operation's id. Errors: those of putValidated, RunInProgress. */
export async function putTemplate(
  engine: Engine,
  database: Kysely<Schema>,
  options: PutTemplateOptions,
): Promise<string> {
  const { id, body, apiVersion, local, catalogue, where } = options;
  return await database.transaction().execute(async trx => {
    await trx.selectFrom('resource').select('id').where('id', '=', id.toLowerCase()).forUpdate().execute();
    if (await activeRun(trx, id)) throw await runInProgress(trx, id);
    const { resource } = await putValidated(trx, imageTemplates, { id, body, apiVersion, local, revise: local });
    const input: CreateInput = { templateId: resource.id, local, ...(catalogue !== undefined && { catalogue }) };
    return await engine.submit(trx, { kind: CREATE_KIND, resourceId: id.toLowerCase(), input, where });
  });
}

export interface CreateEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
}

export function createHandler({ database, home }: CreateEnvironment): OperationHandler {
  return {
    kind: CREATE_KIND,
    async run({ id, signal }, input) {
      const { templateId, local, catalogue } = input as CreateInput;
      try {
        const stored = templateOf(await requireResource(database, templateId));
        await sourceOf(stored, { database, home, ...(catalogue !== undefined && { catalogue }) });
        const { template } = await prepareTemplate(stored, {
          files: home.files,
          owner: id,
          signal,
          download: (url, { onProgress: _, ...options }) => download(url, { ...options, allowFile: local }),
        });
        await patchProperties(database, templateId, {
          ...(template.properties as unknown as JsonObject),
          provisioningState: 'Succeeded',
        });
      } catch (thrown) {
        const error = asKilnError(thrown);
        await whenReachable(() =>
          patchProperties(database, templateId, {
            provisioningState: error.code === 'Canceled' ? 'Canceled' : 'Failed',
            provisioningError: { provisioningErrorCode: provisioningErrorCode(error), message: error.message },
          }),
        );
        throw error;
      }
      return { templateId };
    },
    async abandoned(trx, operation, error) {
      await patchProperties(trx, operation.resource_id!, {
        provisioningState: error.code === 'Canceled' ? 'Canceled' : 'Failed',
        provisioningError: { provisioningErrorCode: 'Other', message: error.message },
      });
      return undefined;
    },
  };
}
