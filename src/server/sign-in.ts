/** All that is answered without a token of Resource Manager's: sign-in, the documents that lead there, and the directory. */
import type { FastifyInstance } from 'fastify';
import type { ServiceLog } from '../database/service-log.ts';
import type { SignInDirectory } from '../directory/directory.ts';
import { discoveryRoutes } from './discovery.ts';
import { graphRoutes } from './graph.ts';
import { identityEndpoint } from './identity-endpoint.ts';
import { metadataRoutes } from './metadata.ts';
import { tokenEndpoint } from './token-endpoint.ts';

export interface SignInOptions {
  readonly directory: SignInDirectory;
  /** What clients call the server; known when it listens. */
  readonly origin: () => string;
  readonly log: ServiceLog;
}

export async function signInRoutes(app: FastifyInstance, options: SignInOptions): Promise<void> {
  for (const routes of [discoveryRoutes, metadataRoutes, tokenEndpoint, identityEndpoint, graphRoutes])
    await app.register(routes, options);
}
