/** A command's use of the state directory: opened before, left after, whatever happens between. */
import type { ServiceLog } from '../database/service-log.ts';
import { openService, type Service } from '../service.ts';
import type { GlobalOptions } from './command.ts';

export async function withService<T>(
  options: Pick<GlobalOptions, 'home'>,
  use: (service: Service) => Promise<T>,
): Promise<T> {
  const service = await openService({ home: options.home, log: serviceLog });
  try {
    return await use(service);
  } finally {
    await service.close();
  }
}

/** The operator's log: errors always, the rest when somebody debugs. A command's own outcome is told by the command. */
export const serviceLog: ServiceLog = (level, message, fields) => {
  if (level !== 'error' && process.env.KILN_DEBUG !== '1') return;
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...fields })}\n`);
};
