import { Alert, SimpleGrid, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { lazy, Suspense, useMemo } from 'react';
import { call } from '../api/client';
import {
  brandingQuery,
  isAdmin,
  isRunning,
  newsQuery,
  useConnections,
  useJobs,
  useProfiles,
} from '../api/queries';
import { session } from '../api/session';
import type { Stats } from '../api/types';
import { JobTable } from '../components/JobTable';
import { ButtonLink } from '../components/links';
import { Loaded, Page, Section, Time } from '../components/parts';
import { t } from '../i18n';
import { bytes, count } from '../lib/format';
import { type Health, healthOf, stored as storedBy } from '../lib/health';

import { NewsText } from './NewsText';

const Dashboard = lazy(() => import('./Dashboard').then((m) => ({ default: m.Dashboard })));
const AccountBody = lazy(() => import('./account/Account').then((m) => ({ default: m.AccountBody })));

function Tile({
  label,
  value,
  to,
  show,
  tone,
}: {
  label: string;
  value: number | undefined;
  to: '/accounts' | '/devices' | '/jobs';
  show?: string;
  tone?: string;
}) {
  return (
    <Link to={to} search={show ? { show } : {}} className="tile" data-tone={value ? tone : undefined}>
      <strong>{value === undefined ? '–' : count(value)}</strong>
      <span>{label}</span>
    </Link>
  );
}

/** A line of the last days, drawn by hand: one series needs no library. */
function Growth({ points, label }: { points: [number, number][]; label: string }) {
  if (points.length < 2) return null;
  const [width, height] = [600, 64];
  const least = points[0]?.[0] ?? 0;
  const most = Math.max(...points.map(([, y]) => y), 1);
  const span = Math.max(1, (points.at(-1)?.[0] ?? 0) - least);
  const line = points
    .map(([x, y]) => `${((x - least) / span) * width},${height - 2 - (y / most) * (height - 6)}`)
    .join(' ');
  return (
    <svg
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      className="growth"
      role="img"
      aria-label={label}
    >
      <polygon points={`0,${height} ${line} ${width},${height}`} />
      <polyline points={line} />
    </svg>
  );
}

function Server() {
  const stats = useQuery({
    queryKey: ['stats'],
    retry: false,
    queryFn: () => call<Record<string, Stats>>('/api/v1/admin/meta/stats', { Simple: true }),
  });
  const points = Object.entries(stats.data ?? {})
    .map(([at, s]) => [Number(at), s.Devices] as [number, number])
    .sort(([a], [b]) => a - b);
  if (points.length < 2) return null;
  return (
    <Section title={t('Devices over time')}>
      <Growth
        points={points}
        label={t('From {from} to {to} devices', { from: points[0]?.[1] ?? 0, to: points.at(-1)?.[1] ?? 0 })}
      />
    </Section>
  );
}

function AdminHome() {
  const profiles = useProfiles();
  const connections = useConnections();
  const jobs = useJobs();
  const list = jobs.data ?? [];
  const accounts = useMemo(() => Object.values(profiles.data ?? {}), [profiles.data]);
  const health = useMemo(() => {
    const out: Record<Health, number> = { failing: 0, warning: 0, late: 0, never: 0, fine: 0, suspended: 0 };
    for (const p of accounts) out[healthOf(p)] += 1;
    return out;
  }, [accounts]);
  const stored = useMemo(() => accounts.reduce((sum, p) => sum + storedBy(p), 0), [accounts]);
  return (
    <Page title={t('Home')}>
      {profiles.data && accounts.length === 0 && (
        <Alert variant="light" title={t('Welcome. Four steps to the first backup')}>
          <Stack gap={4}>
            <Text size="sm" component="ol" m={0} pl="lg">
              <li>
                <Link to="/storage">{t('Look at the storage')}</Link>:{' '}
                {t('this server stores by itself already')}
              </li>
              <li>
                <Link to="/accounts" search={{ dialog: 'new' }}>
                  {t('Add the first account')}
                </Link>
              </li>
              <li>
                <Link to="/install">{t('Register a device')}</Link>
              </li>
              <li>{t('Give it a Storage Vault and a Protected Item on the page of its account')}</li>
            </Text>
          </Stack>
        </Alert>
      )}
      <SimpleGrid cols={{ base: 2, xs: 3, md: 4 }} spacing="xs" verticalSpacing="xs">
        <Tile
          label={t('failing accounts')}
          value={profiles.data && health.failing}
          to="/accounts"
          show="failing"
          tone="bad"
        />
        <Tile
          label={t('late accounts')}
          value={profiles.data && health.late}
          to="/accounts"
          show="late"
          tone="warn"
        />
        <Tile
          label={t('never backed up')}
          value={profiles.data && health.never}
          to="/accounts"
          show="never"
          tone="quiet"
        />
        <Tile label={t('accounts')} value={profiles.data && accounts.length} to="/accounts" />
        <Tile
          label={t('running jobs')}
          value={jobs.data && list.filter(isRunning).length}
          to="/jobs"
          show="running"
          tone="busy"
        />
        <Tile
          label={t('warnings, last 3 days')}
          value={jobs.data && list.filter((j) => j.Status === 7001).length}
          to="/jobs"
          show="warning"
          tone="warn"
        />
        <Tile
          label={t('failures, last 3 days')}
          value={
            jobs.data && list.filter((j) => j.Status >= 7000 && ![7001, 7005, 7006].includes(j.Status)).length
          }
          to="/jobs"
          show="failed"
          tone="bad"
        />
        <Tile
          label={t('devices on line')}
          value={connections.data && Object.keys(connections.data).length}
          to="/devices"
        />
      </SimpleGrid>
      <Text size="sm" c="dimmed">
        {profiles.data && t('{size} in the vaults of all accounts', { size: bytes(stored) })}
      </Text>
      <Suspense>
        <Dashboard />
      </Suspense>
      <Server />
      <Section
        title={t('Latest jobs')}
        aside={
          <ButtonLink variant="subtle" size="compact-sm" to="/jobs">
            {t('All jobs')}
          </ButtonLink>
        }
      >
        <Loaded query={jobs}>{(data) => <JobTable jobs={data} limit={12} name="home-jobs" />}</Loaded>
      </Section>
    </Page>
  );
}

export function Home() {
  const news = useQuery({ ...newsQuery(), enabled: !isAdmin(), retry: false });
  const branding = useQuery(brandingQuery());
  if (isAdmin()) return <AdminHome />;
  const username = session()?.username ?? '';
  const newest = branding.data?.HideNewsArea
    ? undefined
    : Object.values(news.data ?? {}).sort((a, b) => b.DateTime - a.DateTime)[0];
  return (
    <Page title={t('Welcome, {name}', { name: username })}>
      {newest && (
        <Alert variant="light">
          <NewsText text={newest.TextContent} />
          <Text size="xs" c="dimmed">
            <Time unix={newest.DateTime} />
          </Text>
        </Alert>
      )}
      <Suspense>
        <AccountBody username={username} />
      </Suspense>
    </Page>
  );
}
