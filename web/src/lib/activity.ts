// The last days of Protected Items: the worst status of a day counts.
import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { searchJobs } from '../api/queries';
import type { Job } from '../api/types';
import { group, rule } from './clauses';
import { statusTone, type Tone } from './format';

export const DAYS = 10;
const ORDER: Tone[] = ['quiet', 'good', 'busy', 'warn', 'bad'];
export const rankOf = (job: Job) => ORDER.indexOf(statusTone(job.Status));

/** The first second of a day, in the browser's zone. */
export const startOfDay = (unix: number) => {
  const d = new Date(unix * 1000);
  d.setHours(0, 0, 0, 0);
  return Math.floor(d.getTime() / 1000);
};

/** The first seconds of the last days, the oldest first. Noon keeps changes of the clock from shifting a day. */
export function lastDays(days: number, now = Date.now() / 1000): number[] {
  const noon = startOfDay(now) + 43_200;
  return Array.from({ length: days }, (_, i) => startOfDay(noon - (days - 1 - i) * 86_400));
}

/** Jobs of each key by day: the worst of the day. */
export function worstByDay(jobs: Job[], starts: number[], keyOf: (job: Job) => string | undefined) {
  const out = new Map<string, (Job | undefined)[]>();
  for (const job of jobs) {
    const key = keyOf(job);
    const at = starts.findLastIndex((s) => s <= job.StartTime);
    if (key === undefined || at < 0) continue;
    const days = out.get(key) ?? starts.map(() => undefined);
    const old = days[at];
    if (!old || rankOf(job) > rankOf(old)) days[at] = job;
    out.set(key, days);
  }
  return out;
}

/** Backups of the last days, of some accounts or of all. */
export function useActivity(accounts?: string[]) {
  const starts = useMemo(() => lastDays(DAYS), []);
  const first = starts[0] ?? 0;
  const jobs = useQuery({
    queryKey: ['jobs', 'activity', first, accounts ?? ''],
    enabled: accounts === undefined || accounts.length > 0,
    queryFn: async () => {
      const since = [rule('StartTime', 'int_gte', first), rule('Classification', 'int_eq', 4001)];
      const those = accounts?.map((name) => rule('Username', 'str_eq', name));
      return searchJobs(group('and', those ? [...since, group('or', those)] : since));
    },
  });
  return { starts, jobs };
}
