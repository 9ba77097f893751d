// How the backups of accounts stand.
import type { Profile } from '../api/types';
import { t } from '../i18n';
import { statusTone } from './format';

/** Bytes in all vaults of an account. */
export const stored = (p: Profile) =>
  Object.values(p.Destinations).reduce((sum, d) => sum + (d.Statistics?.ClientProvidedSize?.Size ?? 0), 0);
/** The newest backup of any item. */
export const lastJob = (p: Profile) =>
  Object.values(p.Sources)
    .map((s) => s.Statistics?.LastBackupJob)
    .filter((j) => j !== undefined && j.StartTime > 0)
    .sort((a, b) => (b?.StartTime ?? 0) - (a?.StartTime ?? 0))[0];

/** How an account's backups stand, by the last job of each of its items. */
export type Health = 'failing' | 'warning' | 'late' | 'never' | 'fine' | 'suspended';

const LATE = 2 * 86_400;

export function healthOf(p: Profile, now = Date.now() / 1000): Health {
  if (p.IsSuspended) return 'suspended';
  const jobs = Object.values(p.Sources).map((s) => s.Statistics?.LastBackupJob);
  if (jobs.some((j) => j?.StartTime && statusTone(j.Status) === 'bad')) return 'failing';
  if (jobs.length === 0 || jobs.every((j) => !j?.StartTime)) return 'never';
  if (jobs.some((j) => !j?.StartTime || j.StartTime < now - LATE)) return 'late';
  if (jobs.some((j) => j && statusTone(j.Status) === 'warn')) return 'warning';
  return 'fine';
}

export function healthName(health: Health): string {
  switch (health) {
    case 'failing':
      return t('Failing');
    case 'warning':
      return t('Warning');
    case 'late':
      return t('Late');
    case 'never':
      return t('Never backed up');
    case 'fine':
      return t('Fine');
    case 'suspended':
      return t('Suspended');
  }
}

export const HEALTH_TONE = {
  failing: 'bad',
  warning: 'warn',
  late: 'warn',
  never: 'quiet',
  fine: 'good',
  suspended: 'quiet',
} as const;

export const HEALTHS: Health[] = ['failing', 'late', 'warning', 'never', 'fine', 'suspended'];
