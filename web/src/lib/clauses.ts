// The search language of jobs, reports and devices (reference, section 17): fields, operators, and clauses as texts.
import type { SearchClause } from '../api/types';
import { t } from '../i18n';
import { CLASSES, className, STATUSES, statusName } from './format';

export type FieldKind = 'text' | 'number' | 'bytes' | 'time' | 'status' | 'class';

/** What a search looks through. */
export type Subject = 'jobs' | 'devices';

const DEVICE_FIELDS: [string, FieldKind][] = [
  ['FriendlyName', 'text'],
  ['Username', 'text'],
  ['ReportedVersion', 'text'],
  ['ReportedPlatformVersion.distribution', 'text'],
  ['ReportedPlatformVersion.version', 'text'],
  ['IPAddress', 'text'],
  ['DeviceTimeZone', 'text'],
  ['DeviceID', 'text'],
  ['GroupID', 'text'],
  ['PolicyID', 'text'],
  ['OrganizationID', 'text'],
];

const FIELDS: [string, FieldKind][] = [
  ['Username', 'text'],
  ['Status', 'status'],
  ['Classification', 'class'],
  ['StartTime', 'time'],
  ['EndTime', 'time'],
  ['TotalSize', 'bytes'],
  ['UploadSize', 'bytes'],
  ['DownloadSize', 'bytes'],
  ['TotalFiles', 'number'],
  ['TotalDirectories', 'number'],
  ['SourceGUID', 'text'],
  ['DestinationGUID', 'text'],
  ['DeviceID', 'text'],
  ['SnapshotID', 'text'],
  ['ClientVersion', 'text'],
];

function fieldLabel(field: string): string {
  switch (field) {
    case 'Username':
      return t('Account');
    case 'Status':
      return t('Status');
    case 'Classification':
      return t('Kind');
    case 'StartTime':
      return t('Started');
    case 'EndTime':
      return t('Ended');
    case 'TotalSize':
      return t('Size');
    case 'UploadSize':
      return t('Uploaded');
    case 'DownloadSize':
      return t('Downloaded');
    case 'TotalFiles':
      return t('Files');
    case 'TotalDirectories':
      return t('Folders');
    case 'SourceGUID':
      return t('Protected Item (ID)');
    case 'DestinationGUID':
      return t('Storage Vault (ID)');
    case 'DeviceID':
      return t('Device (ID)');
    case 'SnapshotID':
      return t('Snapshot (ID)');
    case 'ClientVersion':
    case 'ReportedVersion':
      return t('Version');
    case 'FriendlyName':
      return t('Device');
    case 'ReportedPlatformVersion.distribution':
      return t('System');
    case 'ReportedPlatformVersion.version':
      return t('Version of the system');
    case 'IPAddress':
      return t('Address');
    case 'DeviceTimeZone':
      return t('Time zone');
    case 'GroupID':
      return t('Group (ID)');
    case 'PolicyID':
      return t('Policy (ID)');
    case 'OrganizationID':
      return t('Tenant (ID)');
    default:
      return field;
  }
}

const PREFIX = 'BackupJobDetail.';
const DEVICE_PREFIX = 'LiveUserConnection.';

export const fieldOptions = (subject: Subject = 'jobs') =>
  subject === 'devices'
    ? DEVICE_FIELDS.map(([name]) => ({ value: DEVICE_PREFIX + name, label: fieldLabel(name) }))
    : FIELDS.map(([name]) => ({ value: PREFIX + name, label: fieldLabel(name) }));

export const kindOf = (field: string): FieldKind =>
  FIELDS.find(([name]) => PREFIX + name === field)?.[1] ?? 'text';

export function operatorOptions(kind: FieldKind) {
  if (kind === 'text') {
    return [
      { value: 'str_contains_ci', label: t('contains') },
      { value: 'str_ncontains_ci', label: t('does not contain') },
      { value: 'str_eq_ci', label: t('is') },
      { value: 'str_neq_ci', label: t('is not') },
      { value: 'str_startswith_ci', label: t('begins with') },
      { value: 'str_endswith_ci', label: t('ends with') },
      { value: 'str_regexmatch', label: t('matches the regular expression') },
    ];
  }
  if (kind === 'status' || kind === 'class') {
    return [
      { value: 'int_eq', label: t('is') },
      { value: 'int_neq', label: t('is not') },
    ];
  }
  const time = kind === 'time';
  return [
    { value: 'int_gte', label: time ? t('after') : t('at least') },
    { value: 'int_lte', label: time ? t('before') : t('at most') },
    { value: 'int_eq', label: t('is') },
    { value: 'int_neq', label: t('is not') },
  ];
}

export function valueOptions(kind: FieldKind) {
  if (kind === 'status') return STATUSES.map((s) => ({ value: String(s), label: statusName(s) }));
  if (kind === 'class') return CLASSES.map((c) => ({ value: String(c), label: className(c) }));
  return null;
}

export function newClause(subject: Subject = 'jobs'): SearchClause {
  return {
    ClauseType: '',
    RuleField: subject === 'devices' ? `${DEVICE_PREFIX}FriendlyName` : `${PREFIX}Username`,
    RuleOperator: 'str_contains_ci',
    RuleValue: '',
    ClauseChildren: [],
  };
}

export const group = (type: string, children: SearchClause[]): SearchClause => ({
  ClauseType: type,
  RuleField: '',
  RuleOperator: '',
  RuleValue: '',
  ClauseChildren: children,
});

export const rule = (field: string, operator: string, value: string | number): SearchClause => ({
  ...newClause(),
  RuleField: PREFIX + field,
  RuleOperator: operator,
  RuleValue: String(value),
});

/** A clause as part of an address, and back; nothing if it is not one. */
export const clauseText = (clause: SearchClause) => JSON.stringify(clause);
export function clauseOf(text: string): SearchClause | null {
  try {
    const clause = JSON.parse(text) as SearchClause;
    return typeof clause.ClauseType === 'string' ? clause : null;
  } catch {
    return null;
  }
}
