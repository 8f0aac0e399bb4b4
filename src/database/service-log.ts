/** The operator's log, as the rooms below `service.ts` see it: a function that they are given. */
export type LogLevel = 'debug' | 'info' | 'warning' | 'error';

export type ServiceLog = (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;
