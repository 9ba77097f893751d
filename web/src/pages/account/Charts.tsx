// The last month of an account: how its backups ended, and how much its vaults hold.
import { SimpleGrid } from '@mantine/core';
import { useMemo } from 'react';
import { isAdmin } from '../../api/queries';
import type { Job } from '../../api/types';
import { Line, type Place, StackedBars } from '../../components/charts';
import { Section } from '../../components/parts';
import { language, t } from '../../i18n';
import { lastDays } from '../../lib/activity';
import { bytes, count, exactBytes, statusName, statusTone } from '../../lib/format';

const DAYS = 30;
const BACKUP = 4001;

export function AccountCharts({ username, jobs }: { username: string; jobs: Job[] }) {
  const { results, sizes } = useMemo(() => {
    const starts = lastDays(DAYS);
    const words = isAdmin() ? `&q=${encodeURIComponent(username)}` : '';
    const places = starts.map((start, at) => ({
      key: start,
      name: new Date(start * 1000).toLocaleDateString(language()),
      to: `/jobs?from=${start}&to=${(starts[at + 1] ?? start + 86_400) - 1}${words}`,
    }));
    const counts = starts.map(() => new Map<number, number>());
    const known = new Map<string, number>();
    const ends = [...jobs].sort((a, b) => a.EndTime - b.EndTime);
    const stored: (number | undefined)[] = starts.map(() => undefined);
    for (const job of ends) {
      const at = starts.findLastIndex((s) => s <= job.StartTime);
      const day = counts[at];
      if (day && job.Classification === BACKUP) day.set(job.Status, (day.get(job.Status) ?? 0) + 1);
      const size = job.DestinationSizeEnd?.Size;
      if (!job.EndTime || !job.DestinationGUID || !size) continue;
      known.set(job.DestinationGUID, size);
      const on = starts.findLastIndex((s) => s <= job.EndTime);
      if (on >= 0) stored[on] = [...known.values()].reduce((sum, n) => sum + n, 0);
      else stored[0] = [...known.values()].reduce((sum, n) => sum + n, 0);
    }
    let last = 0;
    return {
      results: places.map(
        (place, at): Place => ({
          ...place,
          parts: [...(counts[at] ?? [])]
            .sort(([a], [b]) => a - b)
            .map(([status, value]) => ({ name: statusName(status), value, tone: statusTone(status) })),
        }),
      ),
      sizes: places.map((place, at): Place => {
        last = stored[at] ?? last;
        return { ...place, parts: [{ name: t('Stored'), value: last, tone: 'busy' }] };
      }),
    };
  }, [jobs, username]);
  const ran = results.some((place) => place.parts.length > 0);
  const holds = sizes.some((place) => place.parts.some((p) => p.value > 0));
  if (!ran && !holds) return null;
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }} mb="md">
      {ran && (
        <Section title={t('Backups by result')}>
          <StackedBars
            label={t('Backups of the last {n} days by result', { n: DAYS })}
            places={results}
            format={count}
          />
        </Section>
      )}
      {holds && (
        <Section title={t('In the vaults')}>
          <Line label={t('In the vaults')} places={sizes} format={bytes} exact={exactBytes} scale={1024} />
        </Section>
      )}
    </SimpleGrid>
  );
}
