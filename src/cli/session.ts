/** A command's use of the state directory: opened before, left after, whatever happens between. */
import { KilnError } from '../arm/errors.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { openService, type Service } from '../service.ts';
import type { GlobalOptions } from './command.ts';
import { onInterrupt } from './interrupt.ts';

export async function withService<T>(
  options: Pick<GlobalOptions, 'home'>,
  use: (service: Service) => Promise<T>,
): Promise<T> {
  const service = await openService({ home: options.home, log: serviceLog });
  // A reader that goes away (`kiln logs | head`) ends the command as well as the end of its work does, and so does Ctrl-C where nobody else listens.
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => {});
  process.stdout.once('error', ended.reject);
  const canceled = () => ended.reject(new KilnError('Canceled', 'Canceled.'));
  const stop = process.listenerCount('SIGINT') === 0 ? onInterrupt(canceled) : () => {};
  try {
    return await Promise.race([use(service), ended.promise]);
  } finally {
    stop();
    process.stdout.removeListener('error', ended.reject);
    await service.close();
  }
}

/** The operator's log: errors always, the rest when somebody debugs. A command's own outcome is told by the command. */
export const serviceLog: ServiceLog = (level, message, fields) => {
  if (level !== 'error' && process.env.KILN_DEBUG !== '1') return;
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...fields })}\n`);
};
