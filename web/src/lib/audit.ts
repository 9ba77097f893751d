// Who changed what: what the server noted, and how it is told to people.
import { t } from '../i18n';
import type { Tone } from './format';

type Value = string | number | boolean | null | Value[] | { [name: string]: Value };

export type Difference = { Path: string[]; Old?: Value; New?: Value };

export type Deed = {
  ID: number;
  Timestamp: number;
  /** Empty for the server itself. */
  Actor: string;
  Address: string;
  OwnerOrganizationID: string;
  Kind: string;
  Action: string;
  ResourceID: string;
  Differences: { Changes: Difference[]; LeftOut: number };
};

/** The kinds of things that are changed. */
export const kinds = (): Record<string, string> => ({
  account: t('Account'),
  administrator: t('Administrator'),
  tenant: t('Tenant'),
  settings: t('Server settings'),
  policy: t('Policy'),
  group: t('Group'),
  quota: t('Shared quota'),
  bucket: t('Bucket'),
  news: t('News'),
  view: t('View'),
  'report-code': t('API code'),
  'report-template': t('Report template'),
  'report-source': t('Data source'),
  'install-token': t('Install token'),
});

export const actions = (): Record<string, [string, Tone]> => ({
  add: [t('Added'), 'good'],
  change: [t('Changed'), 'busy'],
  remove: [t('Removed'), 'bad'],
  'sign-in': [t('Signed in'), 'quiet'],
  restore: [t('Restored'), 'warn'],
  download: [t('Downloaded'), 'warn'],
});

/** A value as it is shown; nothing for one that is not there. */
export const shown = (value: Value | undefined): string =>
  value === undefined || value === null ? '' : typeof value === 'string' ? value : JSON.stringify(value);

export const where = (difference: Difference) => difference.Path.join(' › ');

/** A difference in one line. */
export function line(difference: Difference): string {
  const [old, now] = [shown(difference.Old), shown(difference.New)];
  const name = where(difference);
  if (difference.Old === undefined || old === '') return `${name}: ${now}`;
  return `${name}: ${old} → ${now || '–'}`;
}

/** What a row has room for: the first differences, by the last part of their path. */
export function summary(deed: Deed): string {
  const { Changes, LeftOut } = deed.Differences;
  const [first, ...rest] = Changes;
  if (!first) return '';
  const more = rest.length + LeftOut;
  const text = line({ ...first, Path: first.Path.slice(-1) });
  return more > 0 ? t('{text} and {n} more', { text, n: more }) : text;
}
