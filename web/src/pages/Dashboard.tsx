// The home page's charts, out of Encke's own reports: what anybody can ask the report service for.
import { SimpleGrid, Table } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { call } from '../api/client';
import { type Cell, type Preview, path, type Report } from '../api/reports';
import { Line, StackedBars } from '../components/charts';
import { Section, Time } from '../components/parts';
import { language, t } from '../i18n';
import { bytes, count, statusName, statusTone } from '../lib/format';

const DAYS = 30;
const DAY = 86_400_000;
/** Numbers of the starter templates. */
const DEVICES = 102;
const VAULTS = 104;
const RECENT_JOBS = 107;
/** Statuses as reports name them, in the order they are drawn from the bottom up. */
const STATUSES: Record<string, number> = {
  SUCCESS: 5000,
  RUNNING: 6001,
  WARNING: 7001,
  CANCELLED: 7005,
  MISSED: 7004,
  TIMEOUT: 7000,
  QUOTA: 7003,
  ERROR: 7002,
  OTHER: 0,
};
const wordOf = (status: number) => (status ? statusName(status) : t('Other'));
const toneOf = (status: number) => (status ? statusTone(status) : 'quiet');

const number = (cell: Cell | undefined) => (typeof cell === 'number' ? cell : 0);
const dayName = (ms: number) => new Date(ms).toLocaleDateString(language(), { timeZone: 'UTC' });

/** The rows of a report that nobody saved, asked for anew each minute. */
const useRows = (name: string, report: Omit<Report, 'name'>) =>
  useQuery({
    queryKey: ['dashboard', name],
    queryFn: () => call<Preview>(path('preview'), { Report: { name, ...report } }),
    retry: false,
    staleTime: 30_000,
    refetchInterval: 60_000,
  });

/** The last days, each with what is known of it. */
function useDays() {
  const first = Math.floor(Date.now() / DAY) * DAY - (DAYS - 1) * DAY;
  const of = {
    template: RECENT_JOBS,
    group: ['day'],
    filters: [
      { column: 'kind', op: 'eq' as const, value: 'BACKUP' },
      { column: 'day', op: 'ge' as const, value: first },
    ],
    sort: [{ column: 'day', descending: true }],
  };
  const results = useRows(`results ${first}`, {
    ...of,
    columns: ['day'],
    pivot: { column: 'status', value: 'jobId', total: 'count' },
  });
  const added = useRows(`added ${first}`, { ...of, columns: ['day', { key: 'uploadBytes', total: 'sum' }] });
  const byDay = (data: Preview | undefined) => new Map(data?.Rows.map((row) => [row[0], row]));
  const [counted, uploaded] = [byDay(results.data), byDay(added.data)];
  const names = results.data?.Columns.map((c) => c.name) ?? [];
  const days = Array.from({ length: DAYS }, (_, at) => {
    const day = first + at * DAY;
    const row = counted.get(day);
    const counts = Object.entries(STATUSES).map(
      ([name, status]) => [status, number(row?.[names.indexOf(name)])] as const,
    );
    return { day, counts: counts.filter(([, n]) => n > 0), added: number(uploaded.get(day)?.[1]) };
  });
  return { days, known: results.data !== undefined && added.data !== undefined };
}

type Day = ReturnType<typeof useDays>['days'][number];
const total = (day: Day) => day.counts.reduce((sum, [, n]) => sum + n, 0);

/** The jobs that began on a day, as the history shows them. */
const jobsOf = (day: number) => `/jobs?from=${day / 1000}&to=${day / 1000 + 86_399}`;

function Results({ days }: { days: Day[] }) {
  const places = days.map((day) => ({
    key: day.day,
    name: dayName(day.day),
    to: jobsOf(day.day),
    parts: day.counts.map(([status, value]) => ({ name: wordOf(status), value, tone: toneOf(status) })),
  }));
  return (
    <StackedBars
      label={t('Backups of the last {n} days by result', { n: DAYS })}
      places={places}
      format={count}
    />
  );
}

function Growth({ days, stored }: { days: Day[]; stored: number }) {
  let sum = 0;
  const places = days.map((day) => {
    sum += day.added;
    const part = { name: t('Added'), value: sum, tone: 'busy' as const };
    return { key: day.day, name: dayName(day.day), to: jobsOf(day.day), parts: [part] };
  });
  return (
    <Line
      label={t('Added by backups in the last {n} days', { n: DAYS })}
      places={places}
      format={bytes}
      scale={1024}
      note={t('{added} added by backups in {n} days, {stored} in all vaults', {
        added: bytes(sum),
        n: DAYS,
        stored: bytes(stored),
      })}
    />
  );
}

export function Dashboard() {
  const { days, known } = useDays();
  const devices = useRows('devices', {
    template: DEVICES,
    columns: ['device', 'account', 'oldestSuccess'],
    filters: [{ column: 'items', op: 'gt', value: 0 }],
    sort: [{ column: 'oldestSuccess' }],
  });
  const vaults = useRows('vaults', { template: VAULTS, columns: [{ key: 'storedBytes', total: 'sum' }] });
  const oldest = devices.data?.Rows.slice(0, 6) ?? [];
  const ran = known && days.some((day) => total(day) > 0);
  if (!ran && oldest.length === 0) return null;
  return (
    <SimpleGrid cols={{ base: 1, md: 3 }} data-testid="dashboard">
      {ran && (
        <Section title={t('Backups by result')}>
          <Results days={days} />
        </Section>
      )}
      {ran && (
        <Section title={t('Storage growth')}>
          <Growth days={days} stored={number(vaults.data?.Rows[0]?.[0])} />
        </Section>
      )}
      {oldest.length > 0 && (
        <Section title={t('Longest without a good backup')}>
          <Table verticalSpacing={4} aria-label={t('Longest without a good backup')}>
            <Table.Tbody>
              {oldest.map(([device, account, success]) => (
                <Table.Tr key={`${account}/${device}`}>
                  <Table.Td>
                    <Link to="/accounts/$username" params={{ username: String(account) }}>
                      {device || account}
                    </Link>
                  </Table.Td>
                  <Table.Td ta="right">
                    {typeof success === 'number' ? <Time unix={success / 1000} /> : t('Never')}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Section>
      )}
    </SimpleGrid>
  );
}
