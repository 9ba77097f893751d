// The home page's charts, out of Encke's own reports: what anybody can ask the report service for.
import { SegmentedControl, SimpleGrid, Skeleton } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { call } from '../api/client';
import { type Cell, type Preview, path, type Report } from '../api/reports';
import { Line, StackedBars } from '../components/charts';
import { Section, Time } from '../components/parts';
import { language, t } from '../i18n';
import { bytes, count, exactBytes, statusName, statusTone } from '../lib/format';
import { useParam } from '../lib/search';

/** Days that the charts look back. */
const SPANS = [7, 30, 90];
const USUAL = 30;
const DAY = 86_400_000;
/** Days that are asked for at once. */
const PART = 45;
/** Numbers of the starter templates. */
const DEVICES = 102;
const VAULTS = 104;
/** All that is kept, and what is quicker to get: a month of it. */
const JOBS = 105;
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

type Day = {
  day: number;
  /** How many backups of it ended how. */
  counts: (readonly [status: number, n: number])[];
  added: number;
};

/** The rows of a report that nobody saved. */
const rowsOf = (name: string, report: Omit<Report, 'name'>) =>
  call<Preview>(path('preview'), { Report: { name, ...report } });

/** Asked for anew each minute. */
const FRESH = { retry: false, staleTime: 30_000, refetchInterval: 60_000 } as const;

const useRows = (name: string, report: Omit<Report, 'name'>) =>
  useQuery({ queryKey: ['dashboard', name], queryFn: () => rowsOf(name, report), ...FRESH });

/** Days in a row, each with what is known of it: not more than an answer holds rows. */
async function fetchDays(first: number, n: number, template: number): Promise<Day[]> {
  const of = {
    template,
    group: ['day'],
    filters: [
      { column: 'kind', op: 'eq' as const, value: 'BACKUP' },
      { column: 'day', op: 'ge' as const, value: first },
      { column: 'day', op: 'lt' as const, value: first + n * DAY },
    ],
  };
  const [results, added] = await Promise.all([
    rowsOf('results', {
      ...of,
      columns: ['day'],
      pivot: { column: 'status', value: 'jobId', total: 'count' },
    }),
    rowsOf('added', { ...of, columns: ['day', { key: 'uploadBytes', total: 'sum' }] }),
  ]);
  const byDay = (data: Preview) => new Map(data.Rows.map((row) => [row[0], row]));
  const [counted, uploaded] = [byDay(results), byDay(added)];
  const names = results.Columns.map((c) => c.name);
  return Array.from({ length: n }, (_, at) => {
    const day = first + at * DAY;
    const row = counted.get(day);
    const counts = Object.entries(STATUSES).map(
      ([name, status]) => [status, number(row?.[names.indexOf(name)])] as const,
    );
    return { day, counts: counts.filter(([, n]) => n > 0), added: number(uploaded.get(day)?.[1]) };
  });
}

/** The last days, the newest at the end. */
function useDays(span: number) {
  const first = Math.floor(Date.now() / DAY) * DAY - (span - 1) * DAY;
  return useQuery({
    queryKey: ['dashboard', 'days', first],
    queryFn: async () => {
      const starts = Array.from({ length: Math.ceil(span / PART) }, (_, i) => i * PART);
      const template = span > USUAL ? JOBS : RECENT_JOBS;
      const parts = starts.map((at) => fetchDays(first + at * DAY, Math.min(PART, span - at), template));
      return (await Promise.all(parts)).flat();
    },
    ...FRESH,
  });
}

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
      label={t('Backups of the last {n} days by result', { n: days.length })}
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
      label={t('Added by backups in the last {n} days', { n: days.length })}
      places={places}
      format={bytes}
      exact={exactBytes}
      scale={1024}
      note={t('{added} added by backups in {n} days, {stored} in all vaults', {
        added: bytes(sum),
        n: days.length,
        stored: bytes(stored),
      })}
    />
  );
}

/** How far the charts look back, which stands in the address. */
function useSpan(): [number, (span: number) => void] {
  const [day, setDay] = useParam('day');
  const span = SPANS.find((n) => String(n) === day) ?? USUAL;
  return [span, (next) => setDay(next === USUAL ? null : String(next))];
}

/** The choice of it. */
export function Spans() {
  const [span, setSpan] = useSpan();
  return (
    <SegmentedControl
      aria-label={t('Days of the charts')}
      value={String(span)}
      onChange={(next) => setSpan(Number(next))}
      data={SPANS.map((n) => ({ value: String(n), label: t('{n} days', { n }) }))}
    />
  );
}

export function Dashboard() {
  const [span] = useSpan();
  const { data: days, isError } = useDays(span);
  const devices = useRows('devices', {
    template: DEVICES,
    columns: ['device', 'account', 'oldestSuccess'],
    filters: [{ column: 'items', op: 'gt', value: 0 }],
    sort: [{ column: 'oldestSuccess' }],
  });
  const vaults = useRows('vaults', { template: VAULTS, columns: [{ key: 'storedBytes', total: 'sum' }] });
  // Whoever never had a good backup has been without one the longest.
  const [never, once] = [true, false].map((is) =>
    (devices.data?.Rows ?? []).filter(([, , success]) => (typeof success !== 'number') === is),
  );
  const oldest = [...(never ?? []), ...(once ?? [])].slice(0, 6);
  // On a new server there is nothing to draw.
  const drawn = !isError && (span !== USUAL || !days || days.some((day) => total(day) > 0));
  if (!drawn && oldest.length === 0) return null;
  return (
    <SimpleGrid cols={{ base: 1, md: 3 }} data-testid="dashboard">
      {drawn && (
        <Section title={t('Backups by result')}>
          {days ? <Results days={days} /> : <Skeleton height={120} />}
        </Section>
      )}
      {drawn && (
        <Section title={t('Storage growth')}>
          {days ? (
            <Growth days={days} stored={number(vaults.data?.Rows[0]?.[0])} />
          ) : (
            <Skeleton height={120} />
          )}
        </Section>
      )}
      {oldest.length > 0 && (
        <Section title={t('Longest without a good backup')}>
          <ul className="lines" aria-label={t('Longest without a good backup')}>
            {oldest.map(([device, account, success]) => (
              <li key={`${account}/${device}`}>
                <Link to="/accounts/$username" params={{ username: String(account) }} className="cut">
                  {device || account}
                </Link>
                {typeof success === 'number' ? <Time unix={success / 1000} /> : t('Never')}
              </li>
            ))}
          </ul>
        </Section>
      )}
    </SimpleGrid>
  );
}
