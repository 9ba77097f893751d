// Protected Items: what their properties say, and new ones (reference, sections 12 and 13).
import type { Item, Rule } from '../api/types';
import { t } from '../i18n';

export const FILES = 'engine1/file';
export const PROGRAM = 'engine1/stdout';

const ENGINES = [
  FILES,
  PROGRAM,
  'engine1/mysql',
  'engine1/mongodb',
  'engine1/mssql',
  'engine1/windisk',
  'engine1/hyperv',
  'engine1/vmware',
  'engine1/proxmox',
  'engine1/winmsofficemail',
  'engine1/exchangeedb',
  'engine1/systemstate',
  'engine1/vsswriter',
];

export function engineName(engine: string): string {
  switch (engine) {
    case FILES:
      return t('Files and folders');
    case PROGRAM:
      return t('Program output');
    case 'engine1/windisk':
      return t('Disk image');
    case 'engine1/mysql':
      return 'MySQL';
    case 'engine1/mongodb':
      return 'MongoDB';
    case 'engine1/mssql':
      return 'Microsoft SQL Server';
    case 'engine1/hyperv':
      return 'Hyper-V';
    case 'engine1/vmware':
      return 'VMware';
    case 'engine1/proxmox':
      return 'Proxmox';
    case 'engine1/winmsofficemail':
      return 'Microsoft 365';
    case 'engine1/exchangeedb':
      return 'Exchange';
    case 'engine1/systemstate':
      return 'Windows Server System State';
    case 'engine1/vsswriter':
      return 'Application-Aware Writer';
    default:
      return engine;
  }
}

export const engineOptions = () => ENGINES.map((value) => ({ value, label: engineName(value) }));

/** The values of keys that share a prefix, such as `INCLUDE1`, `INCLUDE2`. */
export const valuesOf = (props: Record<string, string>, prefix: string) =>
  Object.keys(props)
    .filter((key) => key.startsWith(prefix))
    .sort((a, b) => a.localeCompare(b, undefined, { numeric: true }))
    .map((key) => props[key] ?? '');

/** The properties with other values under a prefix. */
export function withValues(props: Record<string, string>, prefix: string, values: string[]) {
  const kept = Object.entries(props).filter(([key]) => !key.startsWith(prefix));
  return Object.fromEntries([...kept, ...values.map((value, i) => [`${prefix}${i + 1}`, value])]);
}

/** The properties with a flag on or off: its presence counts. */
export function withFlag(props: Record<string, string>, key: string, on: boolean) {
  const { [key]: _, ...rest } = props;
  return on ? { ...rest, [key]: '1' } : rest;
}

const now = () => Math.floor(Date.now() / 1000);

export const newItem = (device: string): Item => ({
  Engine: FILES,
  Description: '',
  OwnerDevice: device,
  EngineProps: {},
  PreExec: [],
  ThawExec: [],
  PostExec: [],
  CreateTime: now(),
  ModifyTime: now(),
  ExistingUserUpdate: false,
  PolicySourceID: '',
});

export const newRule = (source: string, destination: string): Rule => ({
  Description: '',
  Source: source,
  Destination: destination,
  CreateTime: now(),
  ModifyTime: now(),
  PreExec: [],
  ThawExec: [],
  PostExec: [],
  SkipAlreadyRunning: true,
  StopAfter: 0,
  LimitVaultSpeedBps: 0,
  ReduceDiskConcurrency: false,
  UseOnDiskIndexes: false,
  AllowZeroFilesSuccess: false,
  AutoRetentionLevel: 0,
  ConcurrencyCount: 0,
  LogLevel: '',
  Tags: '',
  Schedules: [],
  EventTriggers: {},
});
