// Which server does what, and over all servers of the cluster: which bucket is where and who uses it.
import { Alert, Button, Group, List, Stack, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useMemo } from 'react';
import { call } from '../../api/client';
import { versionQuery } from '../../api/queries';
import { DangerButton } from '../../components/Danger';
import { type Column, DataTable } from '../../components/DataTable';
import { Filter } from '../../components/Filters';
import { Empty, Fact, Failure, Loaded, Page, Section, Tag, Time } from '../../components/parts';
import { plural, t } from '../../i18n';
import { bytes, count } from '../../lib/format';
import { useParam } from '../../lib/search';

type Server = {
  Name: string;
  Address: string;
  /** Empty where all was told. */
  Error: string;
  Accounts: number;
  Buckets: number;
  /** The tenant that it is seen as; empty for all of it. */
  OrganizationID: string;
  SameAsServerID?: number;
};
type Bucket = {
  ExistsOn: { ServerID: number; CreateTime: number; Size: number }[];
  /** Without a name: the settings of the server. */
  UsedBy: { ServerID: number; Username: string }[];
};
type Outside = {
  ServerID: number;
  Username: string;
  BucketID: string;
  Address: string;
  IsKnownServer: boolean;
};
type Report = {
  CheckStarted: number;
  CheckCompleted: number;
  Servers: Server[];
  Buckets: Record<string, Bucket>;
  Problems: string[];
  Outside: Outside[];
  OutsideLeftOut: number;
};
type Details = {
  Report: Report;
  DeletionEnabled: boolean;
  LastPrune: { Time: number; Actor: string; Count: number; Waiting: number; Error: string } | null;
  ChecksCurrentlyActive: number;
};

/** How often it is looked whether there is something new, in milliseconds. */
const OFTEN = 5000;

/** The size of a bucket: of its largest copy. */
const sizeOf = (bucket: Bucket) => Math.max(0, ...bucket.ExistsOn.map((copy) => copy.Size));
const createdOf = (bucket: Bucket) => Math.max(0, ...bucket.ExistsOn.map((copy) => copy.CreateTime));
const isUnused = (bucket: Bucket) => bucket.ExistsOn.length > 0 && bucket.UsedBy.length === 0;

function Servers({ report }: { report: Report }) {
  const columns: Column<Server>[] = [
    { key: 'name', label: t('Server'), width: 200, value: (s) => s.Name },
    { key: 'address', label: t('Address'), width: 240, value: (s) => s.Address },
    {
      key: 'state',
      label: t('State'),
      width: 340,
      value: (s) => s.Error,
      cell: (s) => {
        if (s.Error) return <Tag tone="bad">{s.Error}</Tag>;
        if (s.OrganizationID) return <Tag tone="warn">{t('Seen as one of its tenants')}</Tag>;
        if (s.SameAsServerID !== undefined) return <Tag tone="quiet">{t('Listed twice')}</Tag>;
        return <Tag tone="good">{t('Told everything')}</Tag>;
      },
    },
    { key: 'accounts', label: t('Accounts'), width: 100, right: true, value: (s) => s.Accounts },
    { key: 'buckets', label: t('Buckets'), width: 100, right: true, value: (s) => s.Buckets },
  ];
  return (
    <DataTable
      name="cluster-servers"
      label={t('servers')}
      rows={report.Servers}
      columns={columns}
      id={(s) => `${report.Servers.indexOf(s)}`}
      plain
      empty={t('Nobody was asked yet.')}
    />
  );
}

function Buckets({ report }: { report: Report }) {
  const [show, setShow] = useParam('show');
  const server = (id: number) => report.Servers[id]?.Name ?? String(id);
  const rows = useMemo(() => {
    const all = Object.entries(report.Buckets);
    if (show === 'unused') return all.filter(([, b]) => isUnused(b));
    if (show === 'missing') return all.filter(([, b]) => b.ExistsOn.length === 0);
    return all;
  }, [report, show]);
  const user = (by: Bucket['UsedBy'][number]) =>
    t('{user} on {server}', { user: by.Username || t('Settings'), server: server(by.ServerID) });
  const columns: Column<[string, Bucket]>[] = [
    {
      key: 'id',
      label: t('Bucket'),
      width: 330,
      value: ([id]) => id,
      cell: ([id]) => <span className="mono">{id}</span>,
    },
    {
      key: 'servers',
      label: t('Servers'),
      width: 200,
      value: ([, b]) => b.ExistsOn.map((copy) => server(copy.ServerID)).join(', '),
      cell: ([, b]) =>
        b.ExistsOn.length > 0 ? (
          b.ExistsOn.map((copy) => server(copy.ServerID)).join(', ')
        ) : (
          <Tag tone="warn">{t('Nowhere')}</Tag>
        ),
    },
    {
      key: 'users',
      label: t('Used by'),
      width: 260,
      value: ([, b]) => b.UsedBy.map(user).join(', '),
      cell: ([, b]) =>
        b.UsedBy.length > 0 ? b.UsedBy.map(user).join(', ') : <Tag tone="quiet">{t('Nobody')}</Tag>,
    },
    {
      key: 'size',
      label: t('Size'),
      width: 110,
      right: true,
      descending: true,
      value: ([, b]) => sizeOf(b),
      cell: ([, b]) => bytes(sizeOf(b)),
    },
    {
      key: 'created',
      label: t('Created'),
      width: 130,
      descending: true,
      value: ([, b]) => createdOf(b),
      cell: ([, b]) => <Time unix={createdOf(b)} />,
    },
  ];
  return (
    <DataTable
      name="cluster-buckets"
      label={t('buckets')}
      rows={rows}
      columns={columns}
      id={([id]) => id}
      empty={show ? t('Nothing fits the search.') : t('No buckets.')}
      aside={
        <Filter
          label={t('Which buckets')}
          value={show}
          set={setShow}
          options={[
            ['', t('Everything')],
            ['unused', t('Used by nobody')],
            ['missing', t('Nowhere')],
          ]}
        />
      }
    />
  );
}

/** Vaults whose bucket no server of the cluster has. */
function OutsideList({ report }: { report: Report }) {
  if (report.Outside.length === 0) return null;
  return (
    <Section
      title={t('Storage Vaults outside of the cluster')}
      help={t(
        'Their buckets are on no server of the list. If a server is missing there, accounts on it may use the buckets of these servers, too.',
      )}
    >
      <List size="sm" style={{ overflowWrap: 'anywhere' }}>
        {report.Outside.map((one) => (
          <List.Item key={`${one.ServerID} ${one.Username} ${one.BucketID}`}>
            {t('{user} on {server}', {
              user: one.Username || t('Settings'),
              server: report.Servers[one.ServerID]?.Name ?? '',
            })}
            {': '}
            <span className="mono">{one.BucketID}</span> {one.Address}{' '}
            {one.IsKnownServer && <Tag tone="bad">{t('Missing there')}</Tag>}
          </List.Item>
        ))}
      </List>
      {report.OutsideLeftOut > 0 && (
        <Text size="sm" c="dimmed">
          {t('and {n} more', { n: count(report.OutsideLeftOut) })}
        </Text>
      )}
    </Section>
  );
}

function LastPrune({ last }: { last: NonNullable<Details['LastPrune']> }) {
  return (
    <Alert color={last.Error ? 'red' : 'blue'} variant="light" title={t('Last deletion')}>
      <Stack gap={4}>
        <Text size="sm" component="div">
          <Time unix={last.Time} /> · {last.Actor || t('The server')} ·{' '}
          {plural(last.Count, '{n} bucket deleted', '{n} buckets deleted')}
          {last.Waiting > 0 && (
            <>
              {' · '}
              {plural(last.Waiting, '{n} unused bucket was too new', '{n} unused buckets were too new')}
            </>
          )}
        </Text>
        {last.Error && (
          <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
            {last.Error}
          </Text>
        )}
      </Stack>
    </Alert>
  );
}

function Told({ details }: { details: Details }) {
  const report = details.Report;
  const client = useQueryClient();
  const refresh = () =>
    Promise.all(['cluster', 'buckets'].map((key) => client.invalidateQueries({ queryKey: [key] })));
  const again = useMutation({
    mutationFn: () => call('/api/v1/admin/constellation/new-report'),
    onSettled: refresh,
  });
  const unused = Object.values(report.Buckets).filter(isUnused);
  const size = unused.reduce((sum, b) => sum + sizeOf(b), 0);
  const made = report.CheckStarted > 0;
  return (
    <Stack gap="md">
      <Group gap="xs">
        <Button onClick={() => again.mutate()} loading={again.isPending}>
          {t('Report now')}
        </Button>
        <DangerButton
          label={t('Delete unused buckets')}
          dialog="prune"
          title={t('Delete unused buckets')}
          text={t(
            'All servers are asked once more; then every bucket that nobody uses is deleted on all of them, with all it holds. Nothing can bring it back.',
          )}
          word={location.hostname}
          button={{ variant: 'light', size: 'sm' }}
          run={() => call('/api/v1/admin/constellation/prune-now').finally(refresh)}
        />
      </Group>
      <Failure error={again.error} />
      {made ? (
        <Group gap="xl" className="card">
          <Fact label={t('Report of')}>
            <Time unix={report.CheckCompleted} />
          </Fact>
          <Fact label={t('Buckets')}>{count(Object.keys(report.Buckets).length)}</Fact>
          <Fact label={t('Used by nobody')}>
            {count(unused.length)} · {bytes(size)}
          </Fact>
          <Fact label={t('Deleted by itself')}>
            {details.DeletionEnabled ? <Tag tone="warn">{t('On')}</Tag> : <Tag tone="quiet">{t('Off')}</Tag>}
          </Fact>
          <Fact label={t('Certain')}>
            {report.Problems.length === 0 ? (
              <Tag tone="good">{t('All servers told everything')}</Tag>
            ) : (
              <Tag tone="bad">{t('Something is not known')}</Tag>
            )}
          </Fact>
        </Group>
      ) : (
        <Empty>{t('There is no report yet. One is made every hour.')}</Empty>
      )}
      {report.Problems.length > 0 && (
        <Alert color="red" variant="light" title={t('Nothing is deleted while this is so')}>
          <List size="sm" style={{ overflowWrap: 'anywhere' }}>
            {report.Problems.map((problem) => (
              <List.Item key={problem}>{problem}</List.Item>
            ))}
          </List>
        </Alert>
      )}
      {details.LastPrune && <LastPrune last={details.LastPrune} />}
      {made && (
        <>
          <Section title={t('Servers')}>
            <Servers report={report} />
          </Section>
          <OutsideList report={report} />
          <Section title={t('Buckets')}>
            <Buckets report={report} />
          </Section>
        </>
      )}
    </Stack>
  );
}

function Reported() {
  const details = useQuery({
    queryKey: ['cluster'],
    refetchInterval: OFTEN,
    queryFn: () => call<Details>('/api/encke/v1/constellation/details'),
  });
  return <Loaded query={details}>{(found) => <Told details={found} />}</Loaded>;
}

export function Cluster() {
  const version = useQuery(versionQuery());
  const role = (on: boolean) => (on ? <Tag tone="good">{t('On')}</Tag> : <Tag tone="quiet">{t('Off')}</Tag>);
  return (
    <Page title={t('Cluster')} wide>
      <Section
        title={t('This server')}
        help={
          <>
            {t('Roles are switched in the settings.')}{' '}
            <Link to="/settings" search={{ tab: 'roles' }}>
              {t('Roles')}
            </Link>
          </>
        }
      >
        <Loaded query={version}>
          {(v) => (
            <Group gap="xl" className="card">
              <Fact label={t('Accounts and jobs')}>{role(v.AuthenticationRole)}</Fact>
              <Fact label={t('Storage Role')}>{role(v.StorageRole)}</Fact>
              <Fact label={t('Constellation Role')}>{role(v.ConstellationRole)}</Fact>
            </Group>
          )}
        </Loaded>
      </Section>
      <Section title={t('Cluster')} help={t('Watches which buckets are used by whom, over all servers.')}>
        <Loaded query={version}>
          {(v) =>
            v.ConstellationRole ? (
              <Reported />
            ) : (
              <Alert color="blue" variant="light" title={t('The Constellation Role is switched off')}>
                <Stack gap={4}>
                  <Text size="sm">
                    {t('Switch it on where one server shall look after the buckets of several.')}{' '}
                    <Link to="/settings" search={{ tab: 'roles' }}>
                      {t('Roles')}
                    </Link>
                  </Text>
                  <Text size="sm">
                    {t('Who uses the buckets of this server stands in their list:')}{' '}
                    <Link to="/storage">{t('Storage')}</Link>
                  </Text>
                </Stack>
              </Alert>
            )
          }
        </Loaded>
      </Section>
    </Page>
  );
}
