// The last days of every Protected Item at a glance: the worst status of a day colours it.
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useMemo } from 'react';
import { searchJobs, useConnections, useProfiles } from '../api/queries';
import type { Job } from '../api/types';
import { type Column, DataTable } from '../components/DataTable';
import { Loaded, Page, Tag } from '../components/parts';
import { language, t } from '../i18n';
import { rule } from '../lib/clauses';
import { statusName, statusTone, type Tone } from '../lib/format';
import { connectionsOf } from './account/connections';

const DAYS = 10;
const ORDER: Tone[] = ['quiet', 'good', 'busy', 'warn', 'bad'];

type Row = {
  id: string;
  item: string;
  account: string;
  device: string;
  live: boolean;
  scheduled: boolean;
  days: (Job | undefined)[];
};

const startOfDay = (unix: number) => {
  const d = new Date(unix * 1000);
  d.setHours(0, 0, 0, 0);
  return Math.floor(d.getTime() / 1000);
};

function Strip({ days, starts }: { days: (Job | undefined)[]; starts: number[] }) {
  return (
    <span className="strip">
      {days.map((job, at) => {
        const day = new Date((starts[at] ?? 0) * 1000).toLocaleDateString(language());
        const label = `${day}: ${job ? statusName(job.Status) : t('no job')}`;
        return job ? (
          <Link
            key={starts[at]}
            to="/jobs/$id"
            params={{ id: job.GUID }}
            data-tone={statusTone(job.Status)}
            aria-label={label}
            title={label}
          />
        ) : (
          <span key={starts[at]} title={label} />
        );
      })}
    </span>
  );
}

export function Activity() {
  const profiles = useProfiles();
  const connections = useConnections();
  const first = useMemo(() => startOfDay(Date.now() / 1000 - (DAYS - 1) * 86_400), []);
  const starts = useMemo(
    () => Array.from({ length: DAYS }, (_, i) => startOfDay(first + i * 86_400 + 43_200)),
    [first],
  );
  const jobs = useQuery({
    queryKey: ['jobs', 'activity', first],
    queryFn: () => searchJobs(rule('StartTime', 'int_gte', first)),
  });
  const rows = useMemo(() => {
    const worst = new Map<string, (Job | undefined)[]>();
    for (const job of jobs.data ?? []) {
      if (job.Classification !== 4001 || !job.SourceGUID) continue;
      const key = `${job.Username}\n${job.SourceGUID}`;
      const days = worst.get(key) ?? Array.from({ length: DAYS }, () => undefined);
      const at = starts.findLastIndex((s) => s <= job.StartTime);
      const old = days[at];
      const rank = (j: Job) => ORDER.indexOf(statusTone(j.Status));
      if (at >= 0 && (!old || rank(job) > rank(old))) days[at] = job;
      worst.set(key, days);
    }
    const none = Array.from({ length: DAYS }, () => undefined);
    return Object.values(profiles.data ?? {}).flatMap((p) =>
      Object.entries(p.Sources).map(
        ([id, item]): Row => ({
          id: `${p.Username}\n${id}`,
          item: item.Description || id,
          account: p.Username,
          device: p.Devices[item.OwnerDevice]?.FriendlyName || item.OwnerDevice.slice(0, 12),
          live: connectionsOf(connections.data ?? {}, p.Username, item.OwnerDevice).length > 0,
          scheduled: Object.values(p.BackupRules).some(
            (r) => r.Source === id && (r.Schedules ?? []).length > 0,
          ),
          days: worst.get(`${p.Username}\n${id}`) ?? none,
        }),
      ),
    );
  }, [jobs.data, profiles.data, connections.data, starts]);
  const columns: Column<Row>[] = [
    {
      key: 'item',
      label: t('Protected Item'),
      width: 230,
      value: (r) => r.item,
      cell: (r) => (
        <Link
          to="/accounts/$username/items/$item"
          params={{ username: r.account, item: r.id.split('\n')[1] ?? '' }}
        >
          {r.item}
        </Link>
      ),
    },
    {
      key: 'account',
      label: t('Account'),
      width: 170,
      value: (r) => r.account,
      cell: (r) => (
        <Link to="/accounts/$username" params={{ username: r.account }}>
          {r.account}
        </Link>
      ),
    },
    { key: 'device', label: t('Device'), width: 170, value: (r) => r.device },
    {
      key: 'days',
      label: t('Last {n} days', { n: DAYS }),
      width: 230,
      descending: true,
      value: (r) => r.days.reduce((sum, j) => sum + (j ? 10 ** ORDER.indexOf(statusTone(j.Status)) : 0), 0),
      cell: (r) => <Strip days={r.days} starts={starts} />,
    },
    {
      key: 'notes',
      label: t('Notes'),
      width: 200,
      value: (r) =>
        [r.live ? '' : t('Off line'), r.scheduled ? '' : t('No schedule')].filter(Boolean).join(', '),
      cell: (r) => (
        <>
          {!r.live && <Tag tone="quiet">{t('Off line')}</Tag>}{' '}
          {!r.scheduled && <Tag tone="warn">{t('No schedule')}</Tag>}
        </>
      ),
    },
  ];
  return (
    <Page title={t('Recent activity')}>
      <Loaded query={jobs}>
        {() => (
          <DataTable
            name="activity"
            label={t('Protected Items')}
            rows={rows}
            columns={columns}
            id={(r) => r.id}
            sort="days"
            empty={t('No Protected Items yet. Add one on the page of an account.')}
          />
        )}
      </Loaded>
    </Page>
  );
}
