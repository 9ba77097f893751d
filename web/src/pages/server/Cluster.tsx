// Which server does what, and who uses which bucket. What this server can not do yet is said in its own words.
import { Alert, Group, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { ApiError, call } from '../../api/client';
import { versionQuery } from '../../api/queries';
import { Fact, Loaded, Page, Section, Tag } from '../../components/parts';
import { t } from '../../i18n';

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

export function Cluster() {
  const version = useQuery(versionQuery());
  const role = (on: boolean) => (on ? <Tag tone="good">{t('On')}</Tag> : <Tag tone="quiet">{t('Off')}</Tag>);
  return (
    <Page title={t('Cluster')}>
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
