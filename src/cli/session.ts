/** A command's use of the state directory: opened before, left after, whatever happens between. */
import { KilnError } from '../arm/errors.ts';
import { askedBudget } from '../builds/layers/budget.ts';
import { openEmbedded } from '../database/embedded.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { openHome } from '../home.ts';
import type { Service } from '../service.ts';
import type { GlobalOptions } from './command.ts';
import { onInterrupt } from './interrupt.ts';

/** @param read what `use` needs besides */
export async function withService<T, M = undefined>(
  options: Pick<GlobalOptions, 'home'>,
  use: (service: Service, modules: M) => Promise<T>,
  read?: () => Promise<M>,
): Promise<T> {
  const { service, modules } = await open(options, read);
  // A reader that goes away (`kiln logs | head`) ends the command as well as the end of its work does, and so does Ctrl-C where nobody else listens.
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => {});
  process.stdout.once('error', ended.reject);
  const canceled = () => ended.reject(new KilnError('Canceled', 'Canceled.'));
  const stop = process.listenerCount('SIGINT') === 0 ? onInterrupt(canceled) : () => {};
  try {
    return await Promise.race([use(service, modules as M), ended.promise]);
  } finally {
    stop();
    process.stdout.removeListener('error', ended.reject);
    await service.close();
  }
}

/** The database starts while the rest of the program is read, once it is on its way: reading keeps this process from everything else. */
async function open<M>(options: Pick<GlobalOptions, 'home'>, read?: () => Promise<M>) {
  askedBudget();
  const home = await openHome({ home: options.home });
  const onItsWay = Promise.withResolvers<void>();
  const server = process.env.DATABASE_URL ? undefined : openEmbedded(home, serviceLog, onItsWay.resolve);
  // An error is told by who opens the service.
  await Promise.race([onItsWay.promise, server?.catch(() => {})]);
  const [{ openService }, modules] = await Promise.all([import('../service.ts'), read?.()]);
  const service = await openService({ begun: { home, ...(server && { server }) }, log: serviceLog });
  return { service, modules };
}

/** The operator's log: errors always, the rest when somebody debugs. A command's own outcome is told by the command. */
export const serviceLog: ServiceLog = (level, message, fields) => {
  if (level !== 'error' && process.env.KILN_DEBUG !== '1') return;
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...fields })}\n`);
};
