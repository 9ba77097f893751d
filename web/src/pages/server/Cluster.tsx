// Other servers: copies of this one, and who uses which bucket. What this server can not do yet is said in its own words.
import { Alert, Group, Progress, Stack, Table, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { ApiError, call } from '../../api/client';
import { configQuery, versionQuery } from '../../api/queries';
import { Empty, Fact, Loaded, Page, Section, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { bytes, count } from '../../lib/format';

type Replica = {
  Description: string;
  RemoteServerID: string;
  ItemsQueued: number;
  BytesQueued: number;
  ItemsReplicated: number;
  ActiveWorkers: number;
  TotalWorkers: number;
  LastWorkerSubmitTime: number;
};

/** A call that this server may not serve: its words then, else what it answers. */
function Served<T>({
  path,
  instead,
  children,
}: {
  path: string;
  /** What one can do without it. */
  instead: ReactNode;
  children: (data: T) => ReactNode;
}) {
  const query = useQuery({ queryKey: ['cluster', path], retry: false, queryFn: () => call<T>(path) });
  if (query.error instanceof ApiError && query.error.status >= 400) {
    return (
      <Alert color="blue" variant="light" title={t('Not supported by this server')}>
        <Stack gap={4}>
          <Text size="sm">
            {t('The server says: {message}', {
              message: query.error.message.replace(/^Not supported by this server: /, ''),
            })}
          </Text>
          <Text size="sm">{instead}</Text>
        </Stack>
      </Alert>
    );
  }
  return <Loaded query={query}>{children}</Loaded>;
}

function Replicas({ list }: { list: Replica[] }) {
  if (list.length === 0) return <Empty>{t('This server is copied to no other one.')}</Empty>;
  return (
    <div className="rows" role="region" aria-label={t('Replication')} tabIndex={0}>
      <Table miw={560}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t('Server')}</Table.Th>
            <Table.Th ta="right">{t('Waiting')}</Table.Th>
            <Table.Th ta="right">{t('Done')}</Table.Th>
            <Table.Th>{t('Workers')}</Table.Th>
            <Table.Th>{t('Last')}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {list.map((r) => (
            <Table.Tr key={r.RemoteServerID}>
              <Table.Td>{r.Description || r.RemoteServerID}</Table.Td>
              <Table.Td ta="right">
                {count(r.ItemsQueued)} · {bytes(r.BytesQueued)}
              </Table.Td>
              <Table.Td ta="right">{count(r.ItemsReplicated)}</Table.Td>
              <Table.Td>
                <Progress
                  value={(100 * r.ActiveWorkers) / Math.max(1, r.TotalWorkers)}
                  aria-label={t('Workers')}
                />
              </Table.Td>
              <Table.Td>
                <Time unix={r.LastWorkerSubmitTime} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}

export function Cluster() {
  const version = useQuery(versionQuery());
  const config = useQuery(configQuery());
  const role = (on: boolean) => (on ? <Tag tone="good">{t('On')}</Tag> : <Tag tone="quiet">{t('Off')}</Tag>);
  const targets = config.data?.AuthenticationRole.ReplicateTo ?? [];
  return (
    <Page title={t('Replication and cluster')}>
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
              <Fact label={t('Configured replicas')}>{count(targets.length)}</Fact>
            </Group>
          )}
        </Loaded>
      </Section>
      <Section title={t('Replication')} help={t('Copies accounts and buckets to another server.')}>
        <Served<Replica[]>
          path="/api/v1/admin/replication/state"
          instead={
            <>
              {t(
                'Several servers can share one PostgreSQL database; and the server can copy itself on a schedule:',
              )}{' '}
              <Link to="/settings" search={{ tab: 'copies' }}>
                {t('Self-backup')}
              </Link>
            </>
          }
        >
          {(list) => <Replicas list={list} />}
        </Served>
      </Section>
      <Section title={t('Cluster')} help={t('Watches which buckets are used by whom, over all servers.')}>
        <Served<object>
          path="/api/v1/admin/constellation/status"
          instead={
            <>
              {t('Who uses the buckets of this server stands in their list:')}{' '}
              <Link to="/storage">{t('Storage')}</Link>
            </>
          }
        >
          {(status) => (
            <pre className="json" tabIndex={0}>
              {JSON.stringify(status, null, 2)}
            </pre>
          )}
        </Served>
      </Section>
    </Page>
  );
}
