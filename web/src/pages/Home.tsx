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
  useTopLevel,
} from '../api/queries';
import { session } from '../api/session';
import type { Profile, Stats } from '../api/types';
import { Line, Shares } from '../components/charts';
import { JobTable } from '../components/JobTable';
import { ButtonLink } from '../components/links';
import { Loaded, Page, Section, Tag, Time } from '../components/parts';
import { Strip } from '../components/Strip';
import { language, t } from '../i18n';
import { useActivity, worstByDay } from '../lib/activity';
import { bytes, count } from '../lib/format';
import {
  HEALTH_TONE,
  HEALTHS,
  type Health,
  healthName,
  healthOf,
  lastJob,
  stored as storedBy,
} from '../lib/health';

import { NewsText } from './NewsText';

const Dashboard = lazy(() => import('./Dashboard').then((m) => ({ default: m.Dashboard })));
const Spans = lazy(() => import('./Dashboard').then((m) => ({ default: m.Spans })));
/** Accounts that the home page names. */
const MOST_TOLD = 8;

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

function Server() {
  const stats = useQuery({
    queryKey: ['stats'],
    retry: false,
    queryFn: () => call<Record<string, Stats>>('/api/v1/admin/meta/stats', { Simple: true }),
  });
  const places = Object.entries(stats.data ?? {})
    .map(([at, s]) => ({ at: Number(at), devices: s.Devices }))
    .sort((a, b) => a.at - b.at)
    .map(({ at, devices }) => ({
      key: at,
      name: new Date(at * 1000).toLocaleDateString(language()),
      parts: [{ name: t('Devices'), value: devices, tone: 'busy' as const }],
    }));
  if (places.length < 2) return null;
  return (
    <Section title={t('Devices over time')}>
      <Line label={t('Devices over time')} places={places} format={count} />
    </Section>
  );
}

/** Accounts that need somebody, the worst first, with their last days. */
function Attention({ accounts }: { accounts: Profile[] }) {
  const worst = useMemo(() => {
    const order: Health[] = ['failing', 'late', 'warning', 'never'];
    return accounts
      .map((profile) => ({ profile, health: healthOf(profile) }))
      .filter(({ health }) => order.includes(health))
      .sort(
        (a, b) =>
          order.indexOf(a.health) - order.indexOf(b.health) ||
          (lastJob(a.profile)?.StartTime ?? 0) - (lastJob(b.profile)?.StartTime ?? 0),
      )
      .slice(0, MOST_TOLD);
  }, [accounts]);
  const names = useMemo(() => worst.map(({ profile }) => profile.Username).sort(), [worst]);
  const { starts, jobs } = useActivity(names);
  const days = useMemo(() => worstByDay(jobs.data ?? [], starts, (job) => job.Username), [jobs.data, starts]);
  if (worst.length === 0) return null;
  return (
    <Section
      title={t('Needs attention')}
      aside={
        <ButtonLink variant="subtle" size="compact-sm" to="/activity" search={{ by: 'device' }}>
          {t('Recent activity')}
        </ButtonLink>
      }
    >
      <ul className="attention" aria-label={t('Needs attention')}>
        {worst.map(({ profile, health }) => (
          <li key={profile.Username}>
            <Link to="/accounts/$username" params={{ username: profile.Username }} className="name">
              {profile.Username}
            </Link>
            <Tag tone={HEALTH_TONE[health]}>{healthName(health)}</Tag>
            <span className="dimmed when">
              <Time unix={lastJob(profile)?.StartTime ?? 0} />
            </span>
            <Strip days={days.get(profile.Username) ?? []} starts={starts} />
          </li>
        ))}
      </ul>
    </Section>
  );
}

function AdminHome() {
  const profiles = useProfiles();
  const connections = useConnections();
  const jobs = useJobs();
  const topLevel = useTopLevel();
  const list = jobs.data ?? [];
  const accounts = useMemo(() => Object.values(profiles.data ?? {}), [profiles.data]);
  const health = useMemo(() => {
    const out: Record<Health, number> = { failing: 0, warning: 0, late: 0, never: 0, fine: 0, suspended: 0 };
    for (const p of accounts) out[healthOf(p)] += 1;
    return out;
  }, [accounts]);
  const stored = useMemo(() => accounts.reduce((sum, p) => sum + storedBy(p), 0), [accounts]);
  return (
    <Page
      title={t('Home')}
      aside={
        accounts.length > 0 && (
          <Suspense>
            <Spans />
          </Suspense>
        )
      }
    >
      {profiles.data && accounts.length === 0 && (
        <Alert variant="light" title={t('Welcome. Four steps to the first backup')}>
          <Stack gap={8}>
            {topLevel && (
              <ButtonLink to="/setup" w="fit-content">
                {t('Set up this server')}
              </ButtonLink>
            )}
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
      <div>
        <Shares
          label={t('Accounts by the state of their backups')}
          format={count}
          parts={HEALTHS.map((name) => ({
            name: healthName(name),
            value: health[name],
            tone: HEALTH_TONE[name],
            to: `/accounts?show=${name}`,
          }))}
        />
        <Text size="sm" c="dimmed">
          {profiles.data && t('{size} in the vaults of all accounts', { size: bytes(stored) })}
        </Text>
      </div>
      <Suspense>
        <Dashboard />
      </Suspense>
      <Attention accounts={accounts} />
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
