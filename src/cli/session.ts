/** A command's use of the state directory: opened before, left after, whatever happens between. */
import { KilnError } from '../arm/errors.ts';
import { askedBudget } from '../builds/layers/budget.ts';
import { openEmbedded } from '../database/embedded.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { openHome } from '../home.ts';
import type { Service } from '../service.ts';
import type { GlobalOptions } from './command.ts';
import { onInterrupt } from './interrupt.ts';

export async function withService<T>(
  options: Pick<GlobalOptions, 'home'>,
  use: (service: Service) => Promise<T>,
): Promise<T> {
  const service = await open(options);
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

/** The database starts while the rest of the program is read, once it is on its way: reading keeps this process from everything else. */
async function open(options: Pick<GlobalOptions, 'home'>): Promise<Service> {
  askedBudget();
  const home = await openHome({ home: options.home });
  const onItsWay = Promise.withResolvers<void>();
  const server = process.env.DATABASE_URL ? undefined : openEmbedded(home, serviceLog, onItsWay.resolve);
  // An error is told by who opens the service.
  await Promise.race([onItsWay.promise, server?.catch(() => {})]);
  const { openService } = await import('../service.ts');
  return await openService({ begun: { home, ...(server && { server }) }, log: serviceLog });
}

/** The operator's log: errors always, the rest when somebody debugs. A command's own outcome is told by the command. */
export const serviceLog: ServiceLog = (level, message, fields) => {
  if (level !== 'error' && process.env.KILN_DEBUG !== '1') return;
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...fields })}\n`);
};
